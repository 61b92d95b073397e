package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/cmd/usher-bench/load"
	"github.com/usher-broker/usher/proto"
)

// player is one client of a server.
type player interface {
	send(b []byte) error
	cut()                         // breaks the connection without a close frame
	resume(context.Context) error // attaches again after cut
	close()
}

// subject is one of the servers that a case compares: how to start it, and how a player
// joins it.
type subject struct {
	name  string
	start func(f *fixture) (*server, error)
	join  func(ctx context.Context, s *server, onMessage func([]byte)) (player, error)
}

// server is a running subject.
type server struct {
	procs   []*proc // the processes that are measured
	others  []*proc // other processes that the subject needs
	addr    string
	free    string // URL that makes the first of procs return unused memory; empty if SIGHUP does
	ops     string // base URL of Usher's ops port
	fixture *fixture
	login   *load.Poster // for its login API, if it has one
}

func (s *server) stop() {
	for _, p := range append(append([]*proc{}, s.procs...), s.others...) {
		p.stop()
	}
	if s.login != nil {
		s.login.Close()
	}
}

func (s *server) cpu() time.Duration {
	var sum time.Duration
	for _, p := range s.procs {
		sum += p.cpu()
	}
	return sum
}

// fixture holds what all subjects share.
type fixture struct {
	usher string // binary
	bench string // binary of usher-bench
	plain string // binary of the plain servers
	js    string // directory of the JavaScript servers
	dir   string // for temporary files
	keys  *token.KeySet
	jwks  string
}

func newFixture(usher, bench, plain, js, dir string) (*fixture, error) {
	keys, err := token.NewKeySet()
	if err != nil {
		return nil, err
	}
	f := &fixture{usher: usher, bench: bench, plain: plain, js: js, dir: dir, keys: keys, jwks: filepath.Join(dir, "jwks.json")}
	return f, os.WriteFile(f.jwks, keys.JWKS(), 0o600)
}

const nodeName = "bench"

// sign returns the assignment of a new session to the address, as auth would return it.
func (f *fixture) sign(addr string) (proto.Assignment, error) {
	now := time.Now()
	tok, err := f.keys.Sign(proto.Claims{
		Issuer: "bench", Audience: proto.TokenAudience, User: "bench", Session: session.NewID("bench"), Node: nodeName, Epoch: 1,
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(time.Hour).Unix(), ID: "bench",
	})
	return proto.Assignment{Token: tok, Node: proto.NodeAddress{ID: nodeName, URL: "ws://" + addr + proto.ConnectPath}}, err
}

// node is a single node of Usher, with the sessions in its own memory.
var node = subject{
	name: "usher",
	start: func(f *fixture) (*server, error) {
		addr, ops := freeAddr(), freeAddr()
		p, err := start(addr, nil, f.bench, "node", "--max-sessions=30000", "--listen="+addr, "--ops="+ops, "--jwks="+f.jwks, "--log-level=warn")
		if err != nil {
			return nil, err
		}
		return &server{procs: []*proc{p}, addr: addr, free: "http://" + ops + "/debug/free", ops: "http://" + ops, fixture: f}, nil
	},
	join: func(ctx context.Context, s *server, onMessage func([]byte)) (player, error) {
		at, err := s.fixture.sign(s.addr)
		if err != nil {
			return nil, err
		}
		return attach(ctx, at, onMessage)
	},
}

// cluster is a cluster of Usher in one process: auth, broker and one node.
var cluster = subject{
	name: "usher",
	start: func(f *fixture) (*server, error) {
		auth, ops := freeAddr(), freeAddr()
		p, err := start(ops, nil, f.usher, "dev", "--log-level=error", "--nodes=1", "--app=echo", "--max-sessions=200000", "--auth="+auth, "--api="+freeAddr(), "--ops="+ops, "--node-port="+port(freeAddr()))
		if err != nil {
			return nil, err
		}
		s := &server{procs: []*proc{p}, addr: auth, free: "http://" + ops + "/debug/free", ops: "http://" + ops, fixture: f}
		if s.login, err = load.NewPoster(theDialer, "http://"+auth); err != nil {
			return nil, err
		}
		return s, s.awaitLogin()
	},
	join: journey,
}

// awaitLogin waits until the cluster has found its node.
func (s *server) awaitLogin() error {
	return until(20*time.Second, func() bool {
		_, err := load.Login(context.Background(), s.login, guest())
		return err == nil
	})
}

// journey logs in and attaches.
func journey(ctx context.Context, s *server, onMessage func([]byte)) (player, error) {
	at, err := load.Login(ctx, s.login, guest())
	if err != nil {
		return nil, err
	}
	return attach(ctx, at, onMessage)
}

// usherPlayer is a session of Usher.
type usherPlayer struct {
	*load.Session
	done chan struct{}
}

func attach(ctx context.Context, at proto.Assignment, onMessage func([]byte)) (player, error) {
	p := &usherPlayer{Session: load.NewSession(theDialer, at, onMessage)}
	return p, p.resume(ctx)
}

// theDialer is the dialer of all players.
var theDialer = &load.Dialer{Timeout: 20 * time.Second}

func (p *usherPlayer) resume(ctx context.Context) error {
	if err := p.Attach(ctx); err != nil {
		return err
	}
	done := make(chan struct{})
	p.done = done
	go func() {
		defer close(done)
		_ = p.Serve()
	}()
	return nil
}

func (p *usherPlayer) send(b []byte) error { return p.Send(b) }
func (p *usherPlayer) close()              { p.Close(); <-p.done }
func (p *usherPlayer) cut()                { p.Cut(); <-p.done }

// plain returns an echo server on another library. It verifies the token of each
// handshake as Usher does.
func plain(kind string) subject {
	return subject{
		name: kind,
		start: func(f *fixture) (*server, error) {
			addr := freeAddr()
			p, err := start(addr, nil, f.plain, "-kind", kind, "-listen", addr, "-jwks", f.jwks)
			if err != nil {
				return nil, err
			}
			return &server{procs: []*proc{p}, addr: addr, free: "http://" + addr + "/free", fixture: f}, nil
		},
		join: func(ctx context.Context, s *server, onMessage func([]byte)) (player, error) {
			at, err := s.fixture.sign(s.addr)
			if err != nil {
				return nil, err
			}
			return openPlain(ctx, at, onMessage)
		},
	}
}

// plainPlayer is a WebSocket without a session.
type plainPlayer struct {
	at        proto.Assignment
	onMessage func([]byte)
	socket    *load.Socket
	done      chan struct{}
}

func openPlain(ctx context.Context, at proto.Assignment, onMessage func([]byte)) (player, error) {
	p := &plainPlayer{at: at, onMessage: onMessage}
	return p, p.resume(ctx)
}

func (p *plainPlayer) resume(ctx context.Context) error {
	u, err := url.Parse(p.at.Node.URL)
	if err != nil {
		return err
	}
	p.socket, err = load.Open(ctx, theDialer, u, http.Header{"Authorization": {"Bearer " + p.at.Token}}, proto.Subprotocol)
	if err != nil {
		return err
	}
	p.done = make(chan struct{})
	go listen(p.socket, p.done, func(b []byte, _ bool) error { p.onMessage(b); return nil })
	return nil
}

// listen passes every frame of a socket to handle until the socket or handle fails. Then
// it closes done.
func listen(s *load.Socket, done chan struct{}, handle func([]byte, bool) error) {
	defer close(done)
	for {
		b, text, err := s.Read()
		if err == nil {
			err = handle(b, text)
		}
		if err != nil {
			return
		}
	}
}

func (p *plainPlayer) send(b []byte) error { return p.socket.Write(b, false) }
func (p *plainPlayer) close()              { _ = p.socket.Close(); <-p.done }
func (p *plainPlayer) cut()                { p.socket.Cut(); <-p.done }

// plainGo is a minimal login API and echo server in Go, in one process.
var plainGo = subject{
	name: "plain Go",
	start: func(f *fixture) (*server, error) {
		addr := freeAddr()
		p, err := start(addr, nil, f.plain, "-kind", "journey", "-listen", addr)
		if err != nil {
			return nil, err
		}
		s := &server{procs: []*proc{p}, addr: addr, free: "http://" + addr + "/free", fixture: f}
		s.login, err = load.NewPoster(theDialer, "http://"+addr)
		return s, err
	},
	join: func(ctx context.Context, s *server, onMessage func([]byte)) (player, error) {
		at, err := load.Login(ctx, s.login, proto.LoginRequest{Method: "guest", Credentials: []byte(`{"username":"ada"}`)})
		if err != nil {
			return nil, err
		}
		return openPlain(ctx, at, onMessage)
	},
}

var errProtocol = errors.New("the server violates its protocol")

func unexpected(b []byte) error { return fmt.Errorf("%w: %.40q", errProtocol, b) }
