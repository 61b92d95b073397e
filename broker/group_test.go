package broker_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

func member(user, pool string) proto.AssignmentRequest {
	return proto.AssignmentRequest{User: user, Placement: proto.Placement{Group: "match-42", Pool: pool}}
}

func TestGroupSharesANode(t *testing.T) {
	h := newFixture(t, "node-1", "node-2", "node-3", "node-4")
	first := h.assign(member("ada", ""))
	for i := range 40 {
		if a := h.assign(member(fmt.Sprint("user-", i), "")); a.Node != first.Node {
			t.Fatalf("member %d sent to %s, the first to %s", i, a.Node.ID, first.Node.ID)
		}
	}
	for _, v := range h.Nodes() {
		if v.Peer.ID != first.Node.ID && v.Pending != 0 {
			t.Errorf("%d pending at %s, which no session was assigned to", v.Pending, v.Peer.ID)
		}
	}
	h.join("vip-1", func(p *proto.Peer) { p.Pool = "vip" })
	if a := h.assign(member("bob", "vip")); a.Node.ID != "vip-1" {
		t.Errorf("in another pool sent to %s", a.Node.ID)
	}
	if a := h.assign(member("eve", "default")); a.Node != first.Node {
		t.Errorf("sent to %s, the first to %s", a.Node.ID, first.Node.ID)
	}
}

func TestGroupAtOnce(t *testing.T) {
	h := newFixture(t, "node-1", "node-2", "node-3", "node-4")
	if n := len(h.groupAtOnce()); n != 1 {
		t.Errorf("a new group on %d nodes", n)
	}
	first := h.assign(member("ada", ""))
	h.Leave(first.Node.ID)
	on := h.groupAtOnce()
	if len(on) != 1 || on[first.Node.ID] != 0 {
		t.Errorf("after the death of %s: %v", first.Node.ID, on)
	}
}

// groupAtOnce assigns 50 members of a group concurrently and counts them by node.
func (h *fixture) groupAtOnce() map[string]int {
	h.t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	on := map[string]int{}
	for i := range 50 {
		wg.Go(func() {
			a, err := h.Assign(h.t.Context(), member(fmt.Sprint("user-", i), ""))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				h.t.Error(err)
			}
			on[a.Node.ID]++
		})
	}
	wg.Wait()
	return on
}

// When the group's node takes no more sessions, a new one replaces it, and new
// logins and reconnecting clients all get the new one.
func TestGroupLeavesANode(t *testing.T) {
	for name, change := range map[string]func(h *fixture, id string){
		"dead":     func(h *fixture, id string) { h.Leave(id) },
		"draining": func(h *fixture, id string) { h.report(id, proto.StateDraining, 2) },
		"full":     func(h *fixture, id string) { h.report(id, proto.StateFull, 1000) },
		"silent": func(h *fixture, id string) {
			h.clock.advance(3 * time.Second)
			for _, v := range h.Nodes() {
				if v.Peer.ID != id {
					h.report(v.Peer.ID, proto.StateReady, 0)
				}
			}
			h.clock.advance(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFixture(t, "node-1", "node-2", "node-3", "node-4")
			ada, bob := h.assign(member("ada", "")), h.assign(member("bob", ""))
			change(h, ada.Node.ID)
			eve := h.assign(member("eve", ""))
			if eve.Node == ada.Node {
				t.Fatalf("still sent to %s", eve.Node.ID)
			}
			for _, a := range []proto.Assignment{ada, bob} {
				if b := h.reconnect(a, ada.Node.ID); b.Node != eve.Node || h.claims(b).Epoch != 2 {
					t.Errorf("%s came back to %s, the group is at %s", a.User, b.Node.ID, eve.Node.ID)
				}
			}
		})
	}
}

// One client that cannot reach a node, or says so, does not move the other
// members of its group.
func TestGroupIsNotMovedByOne(t *testing.T) {
	h := newFixture(t, "node-1", "node-2", "node-3", "node-4")
	ada, bob := h.assign(member("ada", "")), h.assign(member("bob", ""))
	if a := h.reconnect(ada, ada.Node.ID); a.Node == ada.Node {
		t.Errorf("sent again to %s, which it cannot reach", a.Node.ID)
	}
	if b := h.reconnect(bob, ""); b.Node != bob.Node {
		t.Errorf("the other was sent to %s", b.Node.ID)
	}
	if e := h.assign(member("eve", "")); e.Node != bob.Node {
		t.Errorf("the next was sent to %s", e.Node.ID)
	}
}

// A group whose sessions have all ended or expired can be bound to another node.
func TestGroupIsReleased(t *testing.T) {
	for name, finish := range map[string]func(h *fixture, a proto.Assignment){
		"ended": func(h *fixture, a proto.Assignment) {
			if err := h.End(t.Context(), a.Session, proto.CloseSessionEnded, ""); err != nil {
				t.Fatal(err)
			}
		},
		"expired": func(h *fixture, _ proto.Assignment) {
			h.clock.advance(2 * time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFixture(t)
			h.rebuild(func(c *broker.Config) {
				c.Selector = func(string) placement.Selector { return &placement.RoundRobin{} }
			})
			for _, id := range []string{"node-1", "node-2", "node-3", "node-4"} {
				h.join(id)
			}
			a := h.assign(member("ada", ""))
			h.clock.advance(session.GroupYoung)
			finish(h, a)
			for _, v := range h.Nodes() {
				h.report(v.Peer.ID, proto.StateReady, 0)
			}
			if b := h.assign(member("bob", "")); b.Node == a.Node {
				t.Errorf("still sent to %s, though round-robin picks another node", b.Node.ID)
			}
		})
	}
}

// A session that could not be opened does not keep the group bound.
func TestGroupWithoutTheRefused(t *testing.T) {
	h := newFixture(t, "node-1", "node-2")
	h.policies[""] = broker.Duplicates{Reject: true}
	h.rebuild(nil)
	h.join("node-1")
	h.join("node-2")
	h.attach(h.assign(proto.AssignmentRequest{User: "ada"}))
	if _, err := h.Assign(t.Context(), member("ada", "")); !errors.Is(err, session.ErrConnected) {
		t.Fatal(err)
	}
	e, err := h.Explain(t.Context(), member("bob", ""), "")
	if err != nil || e.Group != "" {
		t.Errorf("bound to %q, %v", e.Group, err)
	}
}

func TestFallbackRegions(t *testing.T) {
	h := newFixture(t)
	for _, region := range []string{"eu", "us", "ap"} {
		h.join(region+"-1", func(p *proto.Peer) { p.Region, p.Capacity = region, 2 })
	}
	where := func(p proto.Placement) string {
		a, err := h.Assign(t.Context(), proto.AssignmentRequest{User: "ada", Placement: p})
		if err != nil {
			return err.Error()
		}
		return a.Node.ID
	}
	order := proto.Placement{Region: "eu", Fallback: []string{"us"}}
	for i, want := range []string{"eu-1", "eu-1", "us-1", "us-1", "ap-1"} {
		if got := where(order); got != want {
			t.Errorf("login %d: %s, want %s", i, got, want)
		}
	}
	order.Strict = true
	if _, err := h.Assign(t.Context(), proto.AssignmentRequest{User: "ada", Placement: order}); !errors.Is(err, placement.ErrNoCapacity) {
		t.Error(err)
	}
	for name, p := range map[string]proto.Placement{
		"strict without a region":   {Strict: true},
		"fallback without a region": {Fallback: []string{"eu"}},
		"no name":                   {Region: "eu", Fallback: []string{""}},
		"too many":                  {Region: "eu", Fallback: []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}},
		"control":                   {Region: "eu", Fallback: []string{"a\nb"}},
	} {
		if _, err := h.Assign(t.Context(), proto.AssignmentRequest{User: "ada", Placement: p}); !errors.Is(err, broker.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
