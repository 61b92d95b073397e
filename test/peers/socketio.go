package main

import (
	"context"
	"encoding/json"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/usher-broker/usher/cmd/usher/load"
)

// socketio connects by WebSocket alone, and recovers its connection's state through
// the adapter for Redis Streams.
var socketio = subject{
	name: "Socket.IO",
	start: func(r *rig) (*server, error) {
		redis, err := startRedis()
		if err != nil {
			return nil, err
		}
		addr := freeAddr()
		p, err := start(addr, []string{"NODE_ENV=production"}, "node", "--expose-gc", filepath.Join(r.js, "socketio.mjs"), port(addr), redis.addr)
		if err != nil {
			redis.stop()
			return nil, err
		}
		return &server{procs: []*proc{p}, others: []*proc{redis.proc}, addr: addr, rig: r}, nil
	},
	join: func(ctx context.Context, s *server, heard func([]byte)) (player, error) {
		p := &socketioPlayer{server: s, heard: heard}
		return p, p.resume(ctx)
	},
}

type redisServer struct {
	*proc
	addr string
}

func startRedis() (*redisServer, error) {
	addr := freeAddr()
	p, err := start(addr, nil, "redis-server", "--port", port(addr), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	return &redisServer{p, addr}, err
}

type socketioPlayer struct {
	server *server
	heard  func([]byte)
	pid    string // names the connection's state
	offset string // of the last message
	socket *load.Socket
	over   chan struct{}
	binary bool // what comes next belongs to a message
}

// resume connects: Engine.IO's greeting is «0{…}», Socket.IO's is «40», to which
// the state to recover may be added; the answer says whether it was.
func (p *socketioPlayer) resume(ctx context.Context) error {
	u := &url.URL{Scheme: "ws", Host: p.server.addr, Path: "/socket.io/", RawQuery: "EIO=4&transport=websocket"}
	var err error
	if p.socket, err = load.Open(ctx, theDialer, u, nil, ""); err != nil {
		return err
	}
	if b, _, err := p.socket.Read(); err != nil || len(b) == 0 || b[0] != '0' {
		return unexpected(b)
	}
	hello := "40"
	if p.pid != "" {
		state, _ := json.Marshal(map[string]string{"pid": p.pid, "offset": p.offset})
		hello += string(state)
	}
	if err := p.socket.Write([]byte(hello), true); err != nil {
		return err
	}
	b, _, err := p.socket.Read()
	if err != nil || !strings.HasPrefix(string(b), "40") {
		return unexpected(b)
	}
	var state struct{ PID string }
	if err := json.Unmarshal(b[2:], &state); err != nil {
		return err
	}
	if p.pid != "" && p.pid != state.PID {
		return unexpected(b) // not recovered
	}
	p.pid = state.PID
	p.over = make(chan struct{})
	go listen(p.socket, p.over, p.take)
	return nil
}

// take takes a message: «2» is a ping; «451-["echo",{"_placeholder":true,…},"offset"]»
// announces one whose bytes follow.
func (p *socketioPlayer) take(b []byte, text bool) error {
	switch {
	case !text && p.binary:
		p.binary = false
		p.heard(b)
	case string(b) == "2":
		return p.socket.Write([]byte("3"), true)
	case strings.HasPrefix(string(b), "451-"):
		p.binary = true
		var parts []any
		if json.Unmarshal(b[4:], &parts) == nil && len(parts) == 3 {
			p.offset, _ = parts[2].(string)
		}
	}
	return nil
}

func (p *socketioPlayer) send(b []byte) error {
	if err := p.socket.Write([]byte(`451-["echo",{"_placeholder":true,"num":0}]`), true); err != nil {
		return err
	}
	return p.socket.Write(b, false)
}

func (p *socketioPlayer) close() { _ = p.socket.Close(); <-p.over }
func (p *socketioPlayer) cut()   { p.socket.Cut(); <-p.over }
