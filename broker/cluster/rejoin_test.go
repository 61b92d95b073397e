package cluster

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Each round resolves the names again and tries only addresses that are not a
// live member's.
func TestRejoinLooksUpAnew(t *testing.T) {
	a, b := start(t, authConfig("a")), start(t, authConfig("b"))
	n := start(t, nodeConfig("n"))
	_, portA, _ := net.SplitHostPort(a.Addr())
	_, portB, _ := net.SplitHostPort(b.Addr())
	var ips []string
	var lookupErr error
	r := rejoiner{
		c: n, seeds: []seed{{"seeds", portA}, {"seeds", portB}},
		lookup: func(context.Context, string) ([]string, error) { return ips, lookupErr },
	}
	now := time.Now()
	lookupErr = errors.New("no such host")
	r.round(now)
	if h := n.Health(); h.LastError == nil || h.Members != 1 {
		t.Errorf("without a name: %+v", h)
	}
	ips, lookupErr = []string{"127.0.0.1"}, nil
	r.round(now)
	if h := n.Health(); h.LastError != nil || h.Members != 3 {
		t.Errorf("with a name: %+v", h)
	}
	if r.warn {
		t.Error("it would not log a warning when it is alone again")
	}
}

// An address that leads to a member with another advertised address is not tried
// in every round, because each attempt exchanges the states of all members.
func TestRejoinPauses(t *testing.T) {
	a := start(t, authConfig("a"))
	front, tries := forward(t, a.Addr())
	host, port, _ := net.SplitHostPort(front)
	n := start(t, nodeConfig("n"))
	r := rejoiner{c: n, seeds: []seed{{host, port}}, lookup: net.DefaultResolver.LookupHost}
	now := time.Now()
	for _, s := range []struct {
		after time.Duration
		want  int64
	}{{0, 1}, {0, 1}, {5 * n.cfg.Rejoin, 1}, {6 * n.cfg.Rejoin, 2}, {7 * n.cfg.Rejoin, 2}} {
		r.round(now.Add(s.after))
		if got := tries.Load(); got != s.want {
			t.Errorf("%v after the first: %d tries, want %d", s.after, got, s.want)
		}
	}
	if h := n.Health(); h.Members != 2 || h.LastError != nil {
		t.Errorf("health %+v", h)
	}
	// When it is alone again, it tries at once.
	n.remove("a")
	r.round(now.Add(8 * n.cfg.Rejoin))
	if got := tries.Load(); got != 3 {
		t.Errorf("alone: %d tries, want 3", got)
	}
}

// forward returns an address that forwards to another one, and the number of
// connections to it.
func forward(t *testing.T, to string) (string, *atomic.Int64) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var tries atomic.Int64
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			tries.Add(1)
			wg.Go(func() {
				defer in.Close()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				wg.Go(func() { _, _ = io.Copy(out, in) })
				_, _ = io.Copy(in, out)
			})
		}
	})
	return ln.Addr().String(), &tries
}

// An address that leads to the member that advertises it has no pause: if that member
// restarts, this one finds it again at once. Until then, and for lostTime, it tries fast.
func TestRejoinAfterRestart(t *testing.T) {
	a, b := start(t, authConfig("a")), start(t, authConfig("b"))
	hostA, portA, _ := net.SplitHostPort(a.Addr())
	hostB, portB, _ := net.SplitHostPort(b.Addr())
	n := start(t, nodeConfig("n"))
	r := rejoiner{c: n, seeds: []seed{{hostA, portA}, {hostB, portB}}, lookup: net.DefaultResolver.LookupHost}
	now := time.Now()
	r.round(now)
	if len(r.pause) != 0 || r.lost {
		t.Errorf("after the join: pauses %v, lost %v", r.pause, r.lost)
	}
	if err := a.Leave(time.Second); err != nil {
		t.Fatal(err)
	}
	n.remove("a")
	for _, s := range []struct {
		after time.Duration
		lost  bool
	}{{time.Second, true}, {lostTime / 2, true}, {lostTime + 2*time.Second, false}} {
		r.round(now.Add(s.after))
		if r.lost != s.lost {
			t.Errorf("%v after the join: lost is %v, want %v", s.after, r.lost, s.lost)
		}
	}
	r.round(now.Add(lostTime + 3*time.Second))
	if r.lost {
		t.Error("an address is lost again without having been live")
	}
}
