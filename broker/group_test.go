package broker_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

func member(user, pool string) proto.AssignmentRequest {
	return proto.AssignmentRequest{User: user, Placement: proto.Placement{Group: "match-42", Pool: pool}}
}

func TestGroupSharesANode(t *testing.T) {
	h := newHouse(t, "node-1", "node-2", "node-3", "node-4")
	first := h.assign(member("ada", ""))
	for i := range 40 {
		if a := h.assign(member(fmt.Sprint("user-", i), "")); a.Node != first.Node {
			t.Fatalf("member %d sent to %s, the first to %s", i, a.Node.ID, first.Node.ID)
		}
	}
	for _, v := range h.Nodes() {
		if v.Peer.ID != first.Node.ID && v.Pending != 0 {
			t.Errorf("%d on their way to %s, which nobody was sent to", v.Pending, v.Peer.ID)
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
	h := newHouse(t, "node-1", "node-2", "node-3", "node-4")
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

// groupAtOnce assigns many members at once and counts them by node.
func (h *house) groupAtOnce() map[string]int {
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

// A node that takes no sessions any more is replaced, and the whole group meets
// at the new one: those who log in and those who come back.
func TestGroupLeavesANode(t *testing.T) {
	for name, change := range map[string]func(h *house, id string){
		"dead":     func(h *house, id string) { h.Leave(id) },
		"draining": func(h *house, id string) { h.says(id, proto.StateDraining, 2) },
		"full":     func(h *house, id string) { h.says(id, proto.StateFull, 1000) },
		"silent": func(h *house, id string) {
			h.clock.pass(3 * time.Second)
			for _, v := range h.Nodes() {
				if v.Peer.ID != id {
					h.says(v.Peer.ID, proto.StateReady, 0)
				}
			}
			h.clock.pass(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, "node-1", "node-2", "node-3", "node-4")
			ada, bob := h.assign(member("ada", "")), h.assign(member("bob", ""))
			change(h, ada.Node.ID)
			eve := h.assign(member("eve", ""))
			if eve.Node == ada.Node {
				t.Fatalf("still sent to %s", eve.Node.ID)
			}
			for _, a := range []proto.Assignment{ada, bob} {
				if b := h.back(a, ada.Node.ID); b.Node != eve.Node || h.claims(b).Epoch != 2 {
					t.Errorf("%s came back to %s, the group is at %s", a.User, b.Node.ID, eve.Node.ID)
				}
			}
		})
	}
}

// One client that cannot reach a node, or says so, does not move its group.
func TestGroupIsNotMovedByOne(t *testing.T) {
	h := newHouse(t, "node-1", "node-2", "node-3", "node-4")
	ada, bob := h.assign(member("ada", "")), h.assign(member("bob", ""))
	if a := h.back(ada, ada.Node.ID); a.Node == ada.Node {
		t.Errorf("sent again to %s, which it cannot reach", a.Node.ID)
	}
	if b := h.back(bob, ""); b.Node != bob.Node {
		t.Errorf("the other was sent to %s", b.Node.ID)
	}
	if e := h.assign(member("eve", "")); e.Node != bob.Node {
		t.Errorf("the next was sent to %s", e.Node.ID)
	}
}
