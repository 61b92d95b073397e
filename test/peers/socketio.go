package main

import (
	"context"
	"encoding/json"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/usher-broker/usher/cmd/usher-bench/load"
)

// socketio connects by WebSocket only, and recovers the state of its connection through
// the adapter for Redis Streams.
var socketio = subject{
	name: "Socket.IO",
	start: func(f *fixture) (*server, error) {
		redis, err := startRedis()
		if err != nil {
			return nil, err
		}
		addr := freeAddr()
		p, err := start(addr, []string{"NODE_ENV=production"}, "node", "--expose-gc", filepath.Join(f.js, "socketio.mjs"), port(addr), redis.addr)
		if err != nil {
			redis.stop()
			return nil, err
		}
		return &server{procs: []*proc{p}, others: []*proc{redis.proc}, addr: addr, fixture: f}, nil
	},
	join: func(ctx context.Context, s *server, onMessage func([]byte)) (player, error) {
		p := &socketioPlayer{server: s, onMessage: onMessage}
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
	server    *server
	onMessage func([]byte)
	pid       string // the id of the connection's state
	offset    string // of the last message
	socket    *load.Socket
	done      chan struct{} // closed when the socket is no longer read
	binary    bool          // the next binary frame belongs to a message
}

// resume connects. The server's Engine.IO greeting is "0{…}". The client then sends "40"
// for Socket.IO, with the state to recover, if any. The answer names the state: another
// pid means that the server did not recover it.
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
	p.done = make(chan struct{})
	go listen(p.socket, p.done, p.handle)
	return nil
}

// handle handles a frame: "2" is a ping, and
// `451-["echo",{"_placeholder":true,…},"offset"]` announces a message whose bytes follow
// in the next frame.
func (p *socketioPlayer) handle(b []byte, text bool) error {
	switch {
	case !text && p.binary:
		p.binary = false
		p.onMessage(b)
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

func (p *socketioPlayer) close() { _ = p.socket.Close(); <-p.done }
func (p *socketioPlayer) cut()   { p.socket.Cut(); <-p.done }
