package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/usher-broker/usher/cmd/usher-bench/load"
)

// Codes of the Colyseus protocol.
const (
	colyseusJoin  = 10
	colyseusBytes = 17
	colyseusType  = 1 // the message type that our server uses
)

// colyseus asks for a room of up to 50 clients, joins it, and reconnects with the token
// that it got on joining.
var colyseus = subject{
	name: "Colyseus",
	start: func(f *fixture) (*server, error) {
		addr := freeAddr()
		p, err := start(addr, []string{"NODE_ENV=production"}, "node", "--expose-gc", filepath.Join(f.js, "colyseus.mjs"), port(addr))
		if err != nil {
			return nil, err
		}
		s := &server{procs: []*proc{p}, addr: addr, fixture: f}
		s.login, err = load.NewPoster(theDialer, "http://"+addr)
		return s, err
	},
	join: func(ctx context.Context, s *server, onMessage func([]byte)) (player, error) {
		p := &colyseusPlayer{server: s, onMessage: onMessage}
		return p, p.match(ctx, "/matchmake/joinOrCreate/echo", "{}")
	},
}

type colyseusPlayer struct {
	server    *server
	onMessage func([]byte)
	room      string
	socket    *load.Socket
	done      chan struct{} // closed when the socket is no longer read
	token     string        // for the next reconnect
}

// match requests a reservation with an HTTP POST to path, and joins the room with it.
func (p *colyseusPlayer) match(ctx context.Context, path, body string) error {
	status, answer, err := p.server.login.Post(ctx, path, "", []byte(body))
	if err != nil {
		return err
	}
	var reservation struct{ SessionID, RoomID, ProcessID string }
	if err := json.Unmarshal(answer, &reservation); err != nil || status != 200 || reservation.SessionID == "" {
		return fmt.Errorf("matchmaking: status %d: %s", status, answer)
	}
	p.room = reservation.RoomID
	q := url.Values{"sessionId": {reservation.SessionID}}
	if p.token != "" {
		q.Set("reconnectionToken", p.token)
	}
	u := &url.URL{Scheme: "ws", Host: p.server.addr, Path: "/" + reservation.ProcessID + "/" + reservation.RoomID, RawQuery: q.Encode()}
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
	p.done = make(chan struct{})
	go listen(p.socket, p.done, func(b []byte, _ bool) error {
		if len(b) > 2 && b[0] == colyseusBytes && b[1] == colyseusType {
			p.onMessage(b[2:])
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

func (p *colyseusPlayer) close() { _ = p.socket.Close(); <-p.done }
func (p *colyseusPlayer) cut()   { p.socket.Cut(); <-p.done }
