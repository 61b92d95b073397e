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
	"github.com/usher-broker/usher/cmd/usher/load"
	"github.com/usher-broker/usher/proto"
)

// player is one client of a server.
type player interface {
	send(b []byte) error
	cut()                         // without a word
	resume(context.Context) error // after a cut
	close()
}

// subject is what is measured: how to start it and how to join it.
type subject struct {
	name  string
	start func(r *rig) (*server, error)
	join  func(ctx context.Context, s *server, heard func([]byte)) (player, error)
}

// server is a subject that runs.
type server struct {
	procs  []*proc // whose work counts
	others []*proc // what it needs besides
	addr   string
	free   string // URL at which the first of procs gives back memory; empty where a signal does it
	ops    string // base URL of Usher's ops door
	rig    *rig
	login  *load.Poster // of its login door, if it has one
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

// rig is what all subjects share.
type rig struct {
	usher, plain string // binaries
	js           string // directory of the servers in JavaScript
	dir          string // for files
	keys         *token.KeySet
	jwks         string
}

func newRig(usher, plain, js, dir string) (*rig, error) {
	keys, err := token.NewKeySet()
	if err != nil {
		return nil, err
	}
	r := &rig{usher: usher, plain: plain, js: js, dir: dir, keys: keys, jwks: filepath.Join(dir, "jwks.json")}
	return r, os.WriteFile(r.jwks, keys.JWKS(), 0o600)
}

const nodeName = "bench"

// sign returns where a new session is, as auth would say.
func (r *rig) sign(addr string) (proto.Assignment, error) {
	now := time.Now()
	tok, err := r.keys.Sign(proto.Claims{
		Issuer: "bench", Audience: proto.TokenAudience, User: "bench", Session: session.NewID("bench"), Node: nodeName, Epoch: 1,
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(time.Hour).Unix(), ID: "bench",
	})
	return proto.Assignment{Token: tok, Node: proto.NodeAddress{ID: nodeName, URL: "ws://" + addr + proto.ConnectPath}}, err
}

// node is one node of Usher and nothing else, sessions in its own memory.
var node = subject{
	name: "usher",
	start: func(r *rig) (*server, error) {
		addr, ops := freeAddr(), freeAddr()
		p, err := start(addr, nil, r.usher, "bench", "node", "--max-sessions=30000", "--listen="+addr, "--ops="+ops, "--jwks="+r.jwks, "--log-level=warn")
		if err != nil {
			return nil, err
		}
		return &server{procs: []*proc{p}, addr: addr, free: "http://" + ops + "/debug/free", ops: "http://" + ops, rig: r}, nil
	},
	join: func(ctx context.Context, s *server, heard func([]byte)) (player, error) {
		at, err := s.rig.sign(s.addr)
		if err != nil {
			return nil, err
		}
		return attach(ctx, at, heard)
	},
}

// whole is a cluster of Usher in one process: login door, broker and one node.
var whole = subject{
	name: "usher",
	start: func(r *rig) (*server, error) {
		auth, ops := freeAddr(), freeAddr()
		p, err := start(ops, nil, r.usher, "dev", "--log-level=error", "--nodes=1", "--app=echo", "--max-sessions=200000", "--auth="+auth, "--api="+freeAddr(), "--ops="+ops, "--node-port="+port(freeAddr()))
		if err != nil {
			return nil, err
		}
		s := &server{procs: []*proc{p}, addr: auth, free: "http://" + ops + "/debug/free", ops: "http://" + ops, rig: r}
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
func journey(ctx context.Context, s *server, heard func([]byte)) (player, error) {
	at, err := load.Login(ctx, s.login, guest())
	if err != nil {
		return nil, err
	}
	return attach(ctx, at, heard)
}

// usherPlayer is a session of Usher.
type usherPlayer struct {
	*load.Session
	over chan struct{}
}

func attach(ctx context.Context, at proto.Assignment, heard func([]byte)) (player, error) {
	p := &usherPlayer{Session: load.NewSession(theDialer, at, heard)}
	return p, p.resume(ctx)
}

// theDialer is that of all players.
var theDialer = &load.Dialer{Timeout: 20 * time.Second}

func (p *usherPlayer) resume(ctx context.Context) error {
	if err := p.Attach(ctx); err != nil {
		return err
	}
	over := make(chan struct{})
	p.over = over
	go func() {
		defer close(over)
		_ = p.Serve()
	}()
	return nil
}

func (p *usherPlayer) send(b []byte) error { return p.Send(b) }
func (p *usherPlayer) close()              { p.Close(); <-p.over }
func (p *usherPlayer) cut()                { p.Cut(); <-p.over }

// plain is an echo server on another library; its handshakes carry tokens that are
// verified as Usher's are.
func plain(kind string) subject {
	return subject{
		name: kind,
		start: func(r *rig) (*server, error) {
			addr := freeAddr()
			p, err := start(addr, nil, r.plain, "-kind", kind, "-listen", addr, "-jwks", r.jwks)
			if err != nil {
				return nil, err
			}
			return &server{procs: []*proc{p}, addr: addr, free: "http://" + addr + "/free", rig: r}, nil
		},
		join: func(ctx context.Context, s *server, heard func([]byte)) (player, error) {
			at, err := s.rig.sign(s.addr)
			if err != nil {
				return nil, err
			}
			return openPlain(ctx, at, heard)
		},
	}
}

// plainPlayer is a WebSocket and nothing more.
type plainPlayer struct {
	at     proto.Assignment
	heard  func([]byte)
	socket *load.Socket
	over   chan struct{}
}

func openPlain(ctx context.Context, at proto.Assignment, heard func([]byte)) (player, error) {
	p := &plainPlayer{at: at, heard: heard}
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
	p.over = make(chan struct{})
	go listen(p.socket, p.over, func(b []byte, _ bool) error { p.heard(b); return nil })
	return nil
}

// listen reads from a socket until it ends.
func listen(s *load.Socket, over chan struct{}, take func([]byte, bool) error) {
	defer close(over)
	for {
		b, text, err := s.Read()
		if err == nil {
			err = take(b, text)
		}
		if err != nil {
			return
		}
	}
}

func (p *plainPlayer) send(b []byte) error { return p.socket.Write(b, false) }
func (p *plainPlayer) close()              { _ = p.socket.Close(); <-p.over }
func (p *plainPlayer) cut()                { p.socket.Cut(); <-p.over }

// reference is the plainest login door and echo server in Go, in one process.
var reference = subject{
	name: "plain Go",
	start: func(r *rig) (*server, error) {
		addr := freeAddr()
		p, err := start(addr, nil, r.plain, "-kind", "journey", "-listen", addr)
		if err != nil {
			return nil, err
		}
		s := &server{procs: []*proc{p}, addr: addr, free: "http://" + addr + "/free", rig: r}
		s.login, err = load.NewPoster(theDialer, "http://"+addr)
		return s, err
	},
	join: func(ctx context.Context, s *server, heard func([]byte)) (player, error) {
		at, err := load.Login(ctx, s.login, proto.LoginRequest{Method: "guest", Credentials: []byte(`{"username":"ada"}`)})
		if err != nil {
			return nil, err
		}
		return openPlain(ctx, at, heard)
	},
}

var errProtocol = errors.New("not what its protocol says")

func unexpected(b []byte) error { return fmt.Errorf("%w: %.40q", errProtocol, b) }
