package broker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

// outside is where clients are: it says which addresses they can reach.
type outside struct {
	mu     sync.Mutex
	closed map[string]error // by node
	probes map[string]int
}

func (o *outside) probe(_ context.Context, node, _ string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.probes[node]++
	return o.closed[node]
}

func (o *outside) shut(node string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed[node] = err
}

// watched runs f in a bubble of time with a broker that watches its nodes.
func watched(t *testing.T, f func(b *broker.Broker, o *outside, says func(proto.Peer))) {
	synctest.Test(t, func(t *testing.T) {
		keys, err := token.NewKeySet()
		if err != nil {
			t.Fatal(err)
		}
		o := &outside{closed: map[string]error{}, probes: map[string]int{}}
		table := placement.NewTable(placement.Config{Issuer: issuer, Probed: true}, rand.New(rand.NewPCG(1, 2)), time.Now())
		b, err := broker.New(broker.Config{
			Issuer: issuer, Store: memory.New(time.Now), Signer: keys, Cluster: &cluster{}, Placement: table,
			Probe: o.probe, Health: broker.Health{Interval: 2 * time.Second},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = b.Run(ctx) })
		var mu sync.Mutex
		var peers []proto.Peer
		seq := uint64(0)
		wg.Go(func() { // nodes report
			for ctx.Err() == nil {
				seq++
				mu.Lock()
				for _, p := range peers {
					b.Report(proto.Report{ID: p.ID, Generation: p.Generation, Seq: seq, State: p.State, Capacity: p.Capacity})
				}
				mu.Unlock()
				time.Sleep(time.Second)
			}
		})
		defer func() { stop(); wg.Wait(); b.Close() }()
		f(b, o, func(p proto.Peer) {
			p.Role, p.State, p.Generation, p.Capacity = proto.RoleNode, proto.StateReady, 1, 1000
			b.Update(p)
			mu.Lock()
			defer mu.Unlock()
			peers = append(peers, p)
		})
	})
}

func nodes(t *testing.T, b *broker.Broker, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		a, err := b.Assign(t.Context(), ada)
		if err != nil {
			t.Fatal(err)
		}
		got[a.Node.ID]++
	}
	return got
}

// A node with a wrong address never gets a session; it does when it is put
// right.
func TestWrongAddress(t *testing.T) {
	watched(t, func(b *broker.Broker, o *outside, joins func(proto.Peer)) {
		o.shut("wrong", errors.New("connection refused"))
		joins(proto.Peer{ID: "right", URL: "ws://right"})
		joins(proto.Peer{ID: "wrong", URL: "ws://wrong"})
		if _, err := b.Assign(t.Context(), ada); !errors.Is(err, placement.ErrNoNodes) {
			t.Errorf("before anybody was probed: %v", err)
		}
		time.Sleep(150 * time.Millisecond)
		for range 20 {
			if got := nodes(t, b, 10); got["wrong"] > 0 {
				t.Fatal(got)
			}
			time.Sleep(time.Second)
		}
		v, _ := b.Node("wrong")
		if v.Eligible || v.Why != "no client can get in: connection refused" || v.Reach != placement.Shut {
			t.Errorf("%+v", v)
		}
		o.shut("wrong", nil)
		time.Sleep(5 * time.Second)
		if got := nodes(t, b, 100); got["wrong"] == 0 {
			t.Error(got)
		}
	})
}

// Three failures in a row and a node is out, two successes and it is in again;
// fewer change nothing.
func TestOutAndIn(t *testing.T) {
	watched(t, func(b *broker.Broker, o *outside, joins func(proto.Peer)) {
		joins(proto.Peer{ID: "a", URL: "ws://a"})
		joins(proto.Peer{ID: "b", URL: "ws://b"})
		time.Sleep(3 * time.Second)
		reach := func() placement.Reach {
			v, _ := b.Node("a")
			return v.Reach
		}
		await := func(probes int) {
			o.mu.Lock()
			want := o.probes["a"] + probes
			o.mu.Unlock()
			for {
				time.Sleep(50 * time.Millisecond)
				synctest.Wait()
				o.mu.Lock()
				n := o.probes["a"]
				o.mu.Unlock()
				if n >= want {
					return
				}
			}
		}
		for range 3 { // never three in a row
			o.shut("a", errors.New("timeout"))
			await(2)
			if reach() != placement.Reached {
				t.Fatal("out after two failures")
			}
			o.shut("a", nil)
			await(1)
		}
		o.shut("a", errors.New("timeout"))
		await(3)
		if reach() != placement.Unreachable {
			t.Fatal(reach())
		}
		if got := nodes(t, b, 50); got["a"] > 0 {
			t.Error(got)
		}
		o.shut("a", nil)
		await(1)
		if reach() != placement.Unreachable {
			t.Error("in after one success")
		}
		await(1)
		if reach() != placement.Reached {
			t.Error("still out")
		}
		// When nobody can be reached it may be this broker's own trouble.
		o.shut("a", errors.New("no route"))
		o.shut("b", errors.New("no route"))
		await(4)
		if got := nodes(t, b, 10); got["a"]+got["b"] != 10 {
			t.Error(got)
		}
	})
}

// A node that moves to another address has to show that it is there.
func TestNewAddress(t *testing.T) {
	watched(t, func(b *broker.Broker, o *outside, joins func(proto.Peer)) {
		joins(proto.Peer{ID: "a", URL: "ws://a"})
		time.Sleep(time.Second)
		o.shut("a", errors.New("refused"))
		joins(proto.Peer{ID: "a", URL: "ws://elsewhere"})
		time.Sleep(time.Second)
		if v, _ := b.Node("a"); v.Reach != placement.Shut || v.Eligible {
			t.Errorf("%+v", v)
		}
		b.Leave("a")
		time.Sleep(5 * time.Second)
	})
}

// Whatever clients say, a node keeps half of its share.
func TestDoubts(t *testing.T) {
	h := newHouse(t, "node-1", "node-2", "node-3")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.Run(ctx) })
	defer func() { stop(); wg.Wait() }()
	var there []proto.Assignment
	for i := range 900 {
		a := h.assign(proto.AssignmentRequest{User: fmt.Sprint("user-", i)})
		if a.Node.ID == "node-1" {
			there = append(there, a)
		}
	}
	strain := func(want int) {
		t.Helper()
		got := -1
		for range 100 {
			if v, _ := h.Node("node-1"); v.LoadPenalty == want {
				return
			} else {
				got = v.LoadPenalty
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("strain %d, want %d", got, want)
	}
	for range 50 {
		h.back(there[0], "node-1") // one user, again and again; it moves the first time
	}
	strain(2)
	for _, a := range there[1:] {
		h.back(a, "node-1")
	}
	strain(50)
	h.clock.pass(31 * time.Second)
	strain(0)
}

func TestHealthConfig(t *testing.T) {
	cfg := broker.Config{
		Issuer: issuer, Store: memory.New(time.Now), Cluster: &cluster{},
		Placement: placement.NewTable(placement.Config{}, nil, time.Now()), Health: broker.Health{Interval: time.Second},
	}
	if _, err := broker.New(cfg); err == nil {
		t.Error("Health without a Probe")
	}
	cfg.Probe = (&outside{}).probe
	cfg.Health.Out = -1
	if _, err := broker.New(cfg); err == nil {
		t.Error("a negative number")
	}
}
