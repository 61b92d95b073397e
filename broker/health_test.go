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
	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

// fakeNetwork answers the probes: it holds the nodes that cannot be reached.
type fakeNetwork struct {
	mu     sync.Mutex
	errors map[string]error // error of a probe, by node
	probes map[string]int
}

func (o *fakeNetwork) probe(_ context.Context, node, _ string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.probes[node]++
	return o.errors[node]
}

func (o *fakeNetwork) setError(node string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.errors[node] = err
}

// withProbes runs f in a synctest bubble, with a broker that probes its nodes.
func withProbes(t *testing.T, f func(b *broker.Broker, o *fakeNetwork, join func(proto.Peer))) {
	synctest.Test(t, func(t *testing.T) {
		keys, err := token.NewKeySet()
		if err != nil {
			t.Fatal(err)
		}
		o := &fakeNetwork{errors: map[string]error{}, probes: map[string]int{}}
		b, err := broker.New(broker.Config{
			Issuer: issuer, Store: memory.New(time.Now), Signer: keys, Cluster: &cluster{}, Random: rand.New(rand.NewPCG(1, 2)),
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

func assignMany(t *testing.T, b *broker.Broker, n int) map[string]int {
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

// A node with a wrong address gets no sessions until the address is correct.
func TestWrongAddress(t *testing.T) {
	withProbes(t, func(b *broker.Broker, o *fakeNetwork, join func(proto.Peer)) {
		o.setError("wrong", errors.New("connection refused"))
		join(proto.Peer{ID: "right", URL: "ws://right"})
		join(proto.Peer{ID: "wrong", URL: "ws://wrong"})
		if _, err := b.Assign(t.Context(), ada); !errors.Is(err, placement.ErrNoNodes) {
			t.Errorf("before any probe: %v", err)
		}
		time.Sleep(150 * time.Millisecond)
		for range 20 {
			if got := assignMany(t, b, 10); got["wrong"] > 0 {
				t.Fatal(got)
			}
			time.Sleep(time.Second)
		}
		v, _ := b.Node("wrong")
		if v.Eligible() || v.Why() != "clients cannot connect: connection refused" || v.Reach != nodes.NeverReached {
			t.Errorf("%+v", v)
		}
		o.setError("wrong", nil)
		time.Sleep(5 * time.Second)
		if got := assignMany(t, b, 100); got["wrong"] == 0 {
			t.Error(got)
		}
	})
}

// Three consecutive failures take a node out and two consecutive successes bring
// it back; fewer change nothing.
func TestConsecutiveProbes(t *testing.T) {
	withProbes(t, func(b *broker.Broker, o *fakeNetwork, join func(proto.Peer)) {
		join(proto.Peer{ID: "a", URL: "ws://a"})
		join(proto.Peer{ID: "b", URL: "ws://b"})
		time.Sleep(3 * time.Second)
		reach := func() nodes.Reach {
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
			o.setError("a", errors.New("timeout"))
			await(2)
			if reach() != nodes.Reached {
				t.Fatal("taken out after two failures")
			}
			o.setError("a", nil)
			await(1)
		}
		o.setError("a", errors.New("timeout"))
		await(3)
		if reach() != nodes.Unreachable {
			t.Fatal(reach())
		}
		if got := assignMany(t, b, 50); got["a"] > 0 {
			t.Error(got)
		}
		o.setError("a", nil)
		await(1)
		if reach() != nodes.Unreachable {
			t.Error("brought back after one success")
		}
		await(1)
		if reach() != nodes.Reached {
			t.Error("not brought back after two successes")
		}
		// If no node can be reached, the fault may be this broker's own.
		o.setError("a", errors.New("no route"))
		o.setError("b", errors.New("no route"))
		await(4)
		if got := assignMany(t, b, 10); got["a"]+got["b"] != 10 {
			t.Error(got)
		}
	})
}

// A node with a new address gets no sessions until a probe of the new address
// succeeds.
func TestNewAddress(t *testing.T) {
	withProbes(t, func(b *broker.Broker, o *fakeNetwork, join func(proto.Peer)) {
		join(proto.Peer{ID: "a", URL: "ws://a"})
		time.Sleep(time.Second)
		o.setError("a", errors.New("refused"))
		join(proto.Peer{ID: "a", URL: "ws://elsewhere"})
		time.Sleep(time.Second)
		if v, _ := b.Node("a"); v.Reach != nodes.NeverReached || v.Eligible() {
			t.Errorf("%+v", v)
		}
		b.Leave("a")
		time.Sleep(5 * time.Second)
	})
}

// Client reports reduce a node's share by at most half.
func TestClientReports(t *testing.T) {
	h := newFixture(t, "node-1", "node-2", "node-3")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.Run(ctx) })
	defer func() { stop(); wg.Wait() }()
	var onNode1 []proto.Assignment
	for i := range 900 {
		a := h.assign(proto.AssignmentRequest{User: fmt.Sprint("user-", i)})
		if a.Node.ID == "node-1" {
			onNode1 = append(onNode1, a)
		}
	}
	penalty := func(want int) {
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
		t.Errorf("load penalty %d, want %d", got, want)
	}
	for range 50 {
		h.reconnect(onNode1[0], "node-1") // one user, repeatedly; only the first call moves the session
	}
	penalty(2)
	for _, a := range onNode1[1:] {
		h.reconnect(a, "node-1")
	}
	penalty(50)
	h.clock.advance(31 * time.Second)
	penalty(0)
}

func TestHealthConfig(t *testing.T) {
	cfg := broker.Config{
		Issuer: issuer, Store: memory.New(time.Now), Cluster: &cluster{},
		Health: broker.Health{Interval: time.Second},
	}
	if _, err := broker.New(cfg); err == nil {
		t.Error("no error for Health without a Probe")
	}
	cfg.Probe = (&fakeNetwork{}).probe
	cfg.Health.Out = -1
	if _, err := broker.New(cfg); err == nil {
		t.Error("no error for a negative number")
	}
}
