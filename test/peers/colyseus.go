package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/usher-broker/usher/cmd/usher/load"
)

// Codes of Colyseus' protocol.
const (
	colyseusJoin  = 10
	colyseusBytes = 17
	colyseusType  = 1 // of our messages
)

// colyseus matches, joins a room of 50, and reconnects by the token that joining
// has given.
var colyseus = subject{
	name: "Colyseus",
	start: func(r *rig) (*server, error) {
		addr := freeAddr()
		p, err := start(addr, []string{"NODE_ENV=production"}, "node", "--expose-gc", filepath.Join(r.js, "colyseus.mjs"), port(addr))
		if err != nil {
			return nil, err
		}
		s := &server{procs: []*proc{p}, addr: addr, rig: r}
		s.login, err = load.NewPoster(theDialer, "http://"+addr)
		return s, err
	},
	join: func(ctx context.Context, s *server, heard func([]byte)) (player, error) {
		p := &colyseusPlayer{server: s, heard: heard}
		return p, p.match(ctx, "/matchmake/joinOrCreate/echo", "{}")
	},
}

type colyseusPlayer struct {
	server *server
	heard  func([]byte)
	room   string
	socket *load.Socket
	over   chan struct{}
	token  string // for reconnecting
}

func (p *colyseusPlayer) match(ctx context.Context, path, body string) error {
	status, answer, err := p.server.login.Post(ctx, path, "", []byte(body))
	if err != nil {
		return err
	}
	var seat struct{ SessionID, RoomID, ProcessID string }
	if err := json.Unmarshal(answer, &seat); err != nil || status != 200 || seat.SessionID == "" {
		return fmt.Errorf("matchmaking: status %d: %s", status, answer)
	}
	p.room = seat.RoomID
	q := url.Values{"sessionId": {seat.SessionID}}
	if p.token != "" {
		q.Set("reconnectionToken", p.token)
	}
	u := &url.URL{Scheme: "ws", Host: p.server.addr, Path: "/" + seat.ProcessID + "/" + seat.RoomID, RawQuery: q.Encode()}
	if p.socket, err = load.Open(ctx, theDialer, u, nil, ""); err != nil {
		return err
	}
	b, _, err := p.socket.Read()
	if err != nil {
		return err
	}
	if len(b) < 2 || b[0] != colyseusJoin || len(b) < 2+int(b[1]) {
		return unexpected(b)
	}
	p.token = string(b[2 : 2+int(b[1])])
	if err := p.socket.Write([]byte{colyseusJoin}, false); err != nil {
		return err
	}
	p.over = make(chan struct{})
	go listen(p.socket, p.over, func(b []byte, _ bool) error {
		if len(b) > 2 && b[0] == colyseusBytes && b[1] == colyseusType {
			p.heard(b[2:])
		}
		return nil
	})
	return nil
}

func (p *colyseusPlayer) resume(ctx context.Context) error {
	return p.match(ctx, "/matchmake/reconnect/"+p.room, fmt.Sprintf(`{"reconnectionToken":%q}`, p.token))
}

func (p *colyseusPlayer) send(b []byte) error {
	return p.socket.Write(append([]byte{colyseusBytes, colyseusType}, b...), false)
}

func (p *colyseusPlayer) close() { _ = p.socket.Close(); <-p.over }
func (p *colyseusPlayer) cut()   { p.socket.Cut(); <-p.over }
