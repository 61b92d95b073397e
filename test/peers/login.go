package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/cmd/usher-bench/load"
	"github.com/usher-broker/usher/proto"
)

// usherLogin is auth as in production, with Redis and one node. Guests log in.
var usherLogin = subject{name: "usher", start: func(f *fixture) (*server, error) { return startUsherLogin(f, "--guest") }}

// usherPasswordLogin is usherLogin that also accepts a user's password.
var usherPasswordLogin = subject{name: "usher", start: func(f *fixture) (*server, error) {
	users, err := usersFile(f)
	if err != nil {
		return nil, err
	}
	return startUsherLogin(f, "--guest", "--users="+users)
}}

// startUsherLogin starts Redis, an auth with the flags, and a node.
func startUsherLogin(f *fixture, flags ...string) (_ *server, err error) {
	keys := filepath.Join(f.dir, "signing.json")
	if _, err := os.Stat(keys); err != nil {
		if out, err := exec.Command(f.usher, "keys", "signing", "--out="+keys).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
	}
	redis, err := startRedis()
	if err != nil {
		return nil, err
	}
	s := &server{others: []*proc{redis.proc}, fixture: f}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	gossip, addr, ops := freeAddr(), freeAddr(), freeAddr()
	s.ops = "http://" + ops
	shared := []string{"--redis=redis://" + redis.addr, "--log-level=warn", "--signing-key=" + keys, "--listen=" + addr, "--gossip=" + gossip, "--ops=" + ops}
	p, err := start(addr, nil, f.usher, append(append([]string{"auth"}, shared...), flags...)...)
	if err != nil {
		return nil, err
	}
	s.procs, s.addr = []*proc{p}, addr
	nodeAddr := freeAddr()
	n, err := start(nodeAddr, nil, f.usher, "node", "--redis=redis://"+redis.addr, "--log-level=warn", "--id=n1", "--listen="+nodeAddr, "--gossip="+freeAddr(), "--join="+gossip,
		"--max-sessions=1000000", "--jwks=http://"+addr+"/.well-known/jwks.json", "--ops="+freeAddr())
	if err != nil {
		return nil, err
	}
	s.others = append(s.others, n)
	if s.login, err = load.NewPoster(theDialer, "http://"+addr); err != nil {
		return nil, err
	}
	return s, s.awaitLogin()
}

var guests atomic.Int64

// guest returns a login of another user on every call: a second login of the same user
// would end the session of the first one.
func guest() proto.LoginRequest {
	return proto.LoginRequest{Method: "guest", Credentials: fmt.Appendf(nil, `{"name":"guest-%d"}`, guests.Add(1))}
}

// password returns a login of the user in usersFile.
func password() proto.LoginRequest {
	return proto.LoginRequest{Method: "password", Credentials: []byte(`{"username":"ada","password":"correct horse"}`)}
}

// usersFile writes a file with one user and password hash, and returns its path.
func usersFile(f *fixture) (string, error) {
	file := filepath.Join(f.dir, "users")
	cmd := exec.Command(f.usher, "keys", "password", "ada")
	cmd.Stdin = bytes.NewBufferString("correct horse\n")
	line, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("usher keys password: %w", err)
	}
	return file, os.WriteFile(file, line, 0o600)
}

// plainLogin returns a plain login server of the kind: see test/peers/server.
func plainLogin(kind string) subject {
	return subject{name: kind, start: func(f *fixture) (*server, error) {
		redis, err := startRedis()
		if err != nil {
			return nil, err
		}
		addr := freeAddr()
		p, err := start(addr, nil, f.plain, "-kind", kind, "-listen", addr, "-redis", redis.addr)
		if err != nil {
			redis.stop()
			return nil, err
		}
		s := &server{procs: []*proc{p}, others: []*proc{redis.proc}, addr: addr, fixture: f}
		s.login, err = load.NewPoster(theDialer, "http://"+addr)
		return s, err
	}}
}

func runLogin(ctx context.Context, s *server, _ subject) (values, error) {
	return logins(ctx, s, guest, loginWorkers, loginTime)
}

// logins measures logins of the requests that next returns, in parallel workers, for d.
func logins(ctx context.Context, s *server, next func() proto.LoginRequest, workers int, d time.Duration) (values, error) {
	t := load.NewTally()
	one := func() error {
		start := time.Now()
		_, err := load.Login(ctx, s.login, next())
		if err == nil {
			t.Took(start)
		}
		return err
	}
	if _, err := closedLoop(workers, time.Second, one); err != nil { // warm up
		return nil, err
	}
	waitProfile := s.profile("login", d)
	store := s.others[0].cpu()
	began, start := s.cpu(), time.Now()
	n, err := closedLoop(workers, d, one)
	waitProfile()
	if err != nil {
		return nil, err
	}
	took := time.Since(start)
	sum := t.Summary(0)
	return values{
		"per_second": float64(n) / took.Seconds(), "cpu_us": float64((s.cpu() - began).Microseconds()) / float64(n),
		"redis_cpu_us": float64((s.others[0].cpu() - store).Microseconds()) / float64(n),
		"p50_ms":       sum.P50MS, "p99_ms": sum.P99MS,
	}, nil
}

func runPassword(ctx context.Context, s *server, _ subject) (values, error) {
	if s.ops == "" { // not Usher
		return logins(ctx, s, password, hashWorkers, hashTime)
	}
	var t atomic.Pointer[load.Tally]
	t.Store(load.NewTally())
	list, err := joinPlayers(ctx, s, subject{join: journey}, 50, 8, func(int) func([]byte) { return func(b []byte) { t.Load().Lasted(load.Age(b)) } })
	if err != nil {
		return nil, err
	}
	talk := func(d time.Duration) load.Summary {
		t.Store(load.NewTally())
		load.Plan{N: int(200 * d.Seconds()), Rate: 200}.Run(ctx, func(i int, planned time.Time) { _ = list[i%len(list)].send(message(planned)) })
		time.Sleep(200 * time.Millisecond)
		return t.Load().Summary(0)
	}
	quiet := talk(2 * time.Second)
	v, err := logins(ctx, s, password, hashWorkers, hashTime)
	if err != nil {
		return nil, err
	}
	done := make(chan load.Summary)
	go func() { done <- talk(3 * time.Second) }()
	_, err = logins(ctx, s, password, hashWorkers, 2*time.Second) // and one second of warm-up before
	busy := <-done
	if err != nil {
		return nil, err
	}
	v["attached_p99_quiet_ms"], v["attached_p99_ms"] = quiet.P99MS, busy.P99MS
	return v, nil
}
