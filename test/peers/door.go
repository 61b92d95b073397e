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

	"github.com/usher-broker/usher/cmd/usher/load"
	"github.com/usher-broker/usher/proto"
)

// door is auth as it runs in production, with Redis; one node beside it.
var door = subject{name: "usher", start: func(r *rig) (*server, error) { return startDoor(r, "--guest") }}

// passwordDoor is the same for passwords.
var passwordDoor = subject{name: "usher", start: func(r *rig) (*server, error) {
	users, err := usersFile(r)
	if err != nil {
		return nil, err
	}
	return startDoor(r, "--guest", "--users="+users)
}}

func startDoor(r *rig, flags ...string) (_ *server, err error) {
	keys := filepath.Join(r.dir, "signing.json")
	if _, err := os.Stat(keys); err != nil {
		if out, err := exec.Command(r.usher, "keys", "signing", "--out="+keys).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
	}
	redis, err := startRedis()
	if err != nil {
		return nil, err
	}
	s := &server{others: []*proc{redis.proc}, rig: r}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	gossip, at, ops := freeAddr(), freeAddr(), freeAddr()
	s.ops = "http://" + ops
	shared := []string{"--redis=redis://" + redis.addr, "--log-level=warn", "--signing-key=" + keys, "--listen=" + at, "--gossip=" + gossip, "--ops=" + ops}
	p, err := start(at, nil, r.usher, append(append([]string{"auth"}, shared...), flags...)...)
	if err != nil {
		return nil, err
	}
	s.procs, s.addr = []*proc{p}, at
	door := freeAddr()
	n, err := start(door, nil, r.usher, "node", "--redis=redis://"+redis.addr, "--log-level=warn", "--id=n1", "--listen="+door, "--gossip="+freeAddr(), "--join="+gossip,
		"--max-sessions=1000000", "--jwks=http://"+at+"/.well-known/jwks.json", "--ops="+freeAddr())
	if err != nil {
		return nil, err
	}
	s.others = append(s.others, n)
	if s.login, err = load.NewPoster(theDialer, "http://"+at); err != nil {
		return nil, err
	}
	return s, s.awaitLogin()
}

var guests atomic.Int64

// guest is a login of somebody else each time: a second login of the same user
// would end the session of the first.
func guest() proto.LoginRequest {
	return proto.LoginRequest{Method: "guest", Credentials: fmt.Appendf(nil, `{"name":"guest-%d"}`, guests.Add(1))}
}

func password() proto.LoginRequest {
	return proto.LoginRequest{Method: "password", Credentials: []byte(`{"username":"ada","password":"correct horse"}`)}
}

func usersFile(r *rig) (string, error) {
	file := filepath.Join(r.dir, "users")
	cmd := exec.Command(r.usher, "keys", "password", "ada")
	cmd.Stdin = bytes.NewBufferString("correct horse\n")
	line, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("usher keys password: %w", err)
	}
	return file, os.WriteFile(file, line, 0o600)
}

// doorOf is one of the plain login doors.
func doorOf(kind string) subject {
	return subject{name: kind, start: func(r *rig) (*server, error) {
		redis, err := startRedis()
		if err != nil {
			return nil, err
		}
		addr := freeAddr()
		p, err := start(addr, nil, r.plain, "-kind", kind, "-listen", addr, "-redis", redis.addr)
		if err != nil {
			redis.stop()
			return nil, err
		}
		s := &server{procs: []*proc{p}, others: []*proc{redis.proc}, addr: addr, rig: r}
		s.login, err = load.NewPoster(theDialer, "http://"+addr)
		return s, err
	}}
}

func runLogin(ctx context.Context, s *server, _ subject) (values, error) {
	return logins(ctx, s, guest, loginWorkers, loginTime)
}

func logins(ctx context.Context, s *server, r func() proto.LoginRequest, workers int, d time.Duration) (values, error) {
	t := load.NewTally()
	one := func() error {
		begun := time.Now()
		_, err := load.Login(ctx, s.login, r())
		if err == nil {
			t.Took(begun)
		}
		return err
	}
	if _, err := closedLoop(workers, time.Second, one); err != nil { // warm
		return nil, err
	}
	profiled := s.profile("login", d)
	store := s.others[0].cpu()
	began, start := s.cpu(), time.Now()
	n, err := closedLoop(workers, d, one)
	profiled()
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

func runPassword(ctx context.Context, s *server, sub subject) (values, error) {
	if sub.name != "usher" {
		return logins(ctx, s, password, hashWorkers, hashTime)
	}
	var t atomic.Pointer[load.Tally]
	t.Store(load.NewTally())
	list, err := crowd(ctx, s, subject{join: journey}, 50, 8, func(int) func([]byte) { return func(b []byte) { t.Load().Lasted(load.Age(b)) } })
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
	_, err = logins(ctx, s, password, hashWorkers, 2*time.Second) // after a second to warm up
	busy := <-done
	if err != nil {
		return nil, err
	}
	v["attached_p99_quiet_ms"], v["attached_p99_ms"] = quiet.P99MS, busy.P99MS
	return v, nil
}
