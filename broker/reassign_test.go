package broker_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

var ada = proto.AssignmentRequest{User: "ada"}

func other(id string) string {
	if id == "node-1" {
		return "node-2"
	}
	return "node-1"
}

func TestReassignStays(t *testing.T) {
	h := newFixture(t, "node-1", "node-2")
	a := h.assign(ada)
	h.attach(a)
	h.clock.advance(2 * time.Second)
	// Only a report about the session's own node counts.
	for _, unreachable := range []string{"", other(a.Node.ID), "node-9"} {
		b := h.reconnect(a, unreachable)
		if b.Node != a.Node || b.Session != a.Session || b.Token == a.Token {
			t.Errorf("unreachable %q: got %+v", unreachable, b)
		}
		if c := h.claims(b); c.Epoch != 1 || c.ID == h.claims(a).ID || c.IssuedAt != h.clock.now().Unix() {
			t.Errorf("unreachable %q: claims %+v", unreachable, c)
		}
	}
	if sent := h.commands(); len(sent) != 0 {
		t.Errorf("sent %+v", sent)
	}
	if h.counts.of("reassigned ok stayed") != 3 {
		t.Errorf("counted %v", h.counts.n)
	}
}

// Each reason moves a session, and the old node is notified.
func TestReassignMoves(t *testing.T) {
	for _, tc := range []struct {
		name        string
		reason      string
		unreachable bool
		change      func(h *fixture, owner string)
		status      string // of the command to the old node
	}{
		{"unreachable", "unreachable", true, func(*fixture, string) {}, "carried_out"},
		{"gone", "gone", false, func(h *fixture, owner string) { h.Leave(owner) }, "absent"},
		{"draining by report", "draining", false, func(h *fixture, owner string) { h.report(owner, proto.StateDraining, 1) }, "carried_out"},
		{"draining by gossip", "draining", false, func(h *fixture, owner string) {
			h.report(owner, proto.StateReady, 1)
			h.join(owner, func(p *proto.Peer) { p.State = proto.StateDraining })
		}, "carried_out"},
		{"full before it attached", "full", false, func(h *fixture, owner string) { h.report(owner, proto.StateFull, 1000) }, "carried_out"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newFixture(t, "node-1", "node-2")
			a := h.assign(proto.AssignmentRequest{User: "ada", Ext: []byte(`{"rank":3}`)})
			tc.change(h, a.Node.ID)
			unreachable := ""
			if tc.unreachable {
				unreachable = a.Node.ID
			}
			b := h.reconnect(a, unreachable)
			if want := other(a.Node.ID); b.Node.ID != want || b.Node.URL != "wss://"+want+".example/v1/connect" || b.Session != a.Session {
				t.Errorf("got %+v", b)
			}
			if c := h.claims(b); c.Epoch != 2 || c.Node != b.Node.ID || string(c.Ext) != `{"rank":3}` {
				t.Errorf("claims %+v", c)
			}
			if again := h.reconnect(a, unreachable); again.Node != b.Node || h.claims(again).Epoch != 2 {
				t.Errorf("asked again with the old token: %+v", again)
			}
			want := []sentCommand{{a.Node.ID, proto.Command{Op: proto.OpMoved, Session: a.Session, Epoch: 2}}}
			if tc.status == "absent" {
				want = nil
			}
			if sent := h.commands(); !slices.Equal(sent, want) {
				t.Errorf("sent %+v, want %+v", sent, want)
			}
			if h.counts.of("reassigned ok "+tc.reason) != 1 || h.counts.of("commanded moved "+tc.status) != 1 {
				t.Errorf("counted %v", h.counts.n)
			}
		})
	}
}

// A full node keeps the sessions that have attached there, with their streams.
func TestReassignStaysAtAFullNode(t *testing.T) {
	h := newFixture(t, "node-1", "node-2")
	a := h.assign(ada)
	lease := h.attach(a)
	h.report(a.Node.ID, proto.StateFull, 1000)
	if b := h.reconnect(a, ""); b.Node != a.Node {
		t.Errorf("attached: sent to %s", b.Node.ID)
	}
	h.detach(lease, time.Minute)
	if b := h.reconnect(a, ""); b.Node != a.Node {
		t.Errorf("detached: sent to %s", b.Node.ID)
	}
}

func TestReassignNeedsNoFreshToken(t *testing.T) {
	h := newFixture(t, "node-1")
	a := h.assign(ada)
	c := h.claims(a)
	h.attach(a)
	h.clock.advance(59 * time.Minute)
	lease := session.Lease{ID: c.Session, Node: c.Node, Epoch: 1}
	h.detach(lease, 10*time.Minute)
	h.clock.advance(5 * time.Minute)
	b, err := h.Reassign(t.Context(), c, "")
	if err != nil || h.claims(b).Expires != h.clock.now().Add(time.Hour).Unix() {
		t.Errorf("got %+v, %v", b, err)
	}
}

// If no other node has capacity, the client goes to the node it could not reach:
// it may be reachable by now.
func TestReassignToTheOnlyOne(t *testing.T) {
	t.Run("its own", func(t *testing.T) {
		h := newFixture(t, "node-1", "node-2")
		a := h.assign(ada)
		h.report(other(a.Node.ID), proto.StateFull, 1000)
		b := h.reconnect(a, a.Node.ID)
		if b.Node != a.Node || h.claims(b).Epoch != 1 || h.counts.of("reassigned ok only_one") != 1 {
			t.Errorf("got %+v, counted %v", b, h.counts.n)
		}
	})
	t.Run("another", func(t *testing.T) {
		h := newFixture(t, "node-1", "node-2")
		a := h.assign(ada)
		h.Leave(a.Node.ID)
		b := h.reconnect(a, other(a.Node.ID))
		if b.Node.ID != other(a.Node.ID) || h.claims(b).Epoch != 2 || h.counts.of("reassigned ok gone") != 1 {
			t.Errorf("got %+v, counted %v", b, h.counts.n)
		}
	})
	t.Run("none", func(t *testing.T) {
		h := newFixture(t, "node-1", "node-2")
		a := h.assign(ada)
		h.Leave(a.Node.ID)
		h.report(other(a.Node.ID), proto.StateFull, 1000)
		if _, err := h.Reassign(t.Context(), h.claims(a), ""); !errors.Is(err, placement.ErrNoCapacity) {
			t.Errorf("got %v", err)
		}
		h.Leave(other(a.Node.ID))
		if _, err := h.Reassign(t.Context(), h.claims(a), ""); !errors.Is(err, placement.ErrNoNodes) {
			t.Errorf("got %v", err)
		}
	})
}

// If 200 requests run at once, one moves the session and all return the same
// node.
func TestReassignAtOnce(t *testing.T) {
	const callers = 200
	h := newFixture(t, "node-1", "node-2", "node-3", "node-4", "node-5")
	a := h.assign(ada)
	c := h.claims(a)
	got := make([]proto.Assignment, callers)
	errs := make([]error, callers)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			<-start
			got[i], errs[i] = h.Reassign(t.Context(), c, a.Node.ID)
		})
	}
	close(start)
	wg.Wait()
	for i := range callers {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		if got[i].Node != got[0].Node || got[i].Node == a.Node || h.claims(got[i]).Epoch != 2 {
			t.Fatalf("request %d returned %+v, the first %+v", i, got[i].Node, got[0].Node)
		}
	}
	if r, err := h.Session(t.Context(), a.Session); err != nil || r.Epoch != 2 || r.Node != got[0].Node.ID {
		t.Errorf("record %+v, %v", r, err)
	}
	moved, same := h.counts.of("reassigned ok unreachable"), h.counts.of("reassigned ok stayed")+h.counts.of("reassigned ok followed")
	if moved != 1 || same != callers-1 {
		t.Errorf("counted %v", h.counts.n)
	}
	if sent := h.commands(); len(sent) != 1 {
		t.Errorf("sent %+v", sent)
	}
	total := 0
	for _, v := range h.Nodes() {
		total += v.Pending
	}
	if total != 2 { // that of the assignment and that of the winner
		t.Errorf("%d pending", total)
	}
}

// A request that loses follows the winner, which may be another broker.
func TestReassignFollows(t *testing.T) {
	h := newFixture(t, "node-1", "node-2", "node-3")
	h.store.overtake = func(id string) error {
		_, err := h.store.Store.Reassign(t.Context(), session.NewRequest(), session.Record{ID: id, Epoch: 1}, "node-9", time.Minute)
		return err
	}
	a, b := h.assign(ada), h.assign(ada)
	if _, err := h.Reassign(t.Context(), h.claims(a), a.Node.ID); !errors.Is(err, placement.ErrNoNodes) {
		t.Fatalf("to a node without a known address: %v", err)
	}
	h.join("node-9", func(p *proto.Peer) { p.Pool = "its own" }) // so that this broker does not pick it
	if again := h.reconnect(b, b.Node.ID); again.Node.ID != "node-9" || h.claims(again).Epoch != 2 {
		t.Errorf("got %+v", again)
	}
	if h.counts.of("reassigned ok followed") != 1 || h.counts.of("reassigned no_nodes ") != 1 {
		t.Errorf("counted %v", h.counts.n)
	}
	total := 0
	for _, v := range h.Nodes() {
		total += v.Pending
	}
	if total != 2 { // of the two assignments
		t.Errorf("%d pending", total)
	}
	if sent := h.commands(); len(sent) != 0 {
		t.Errorf("sent %+v", sent)
	}
}

func TestReassignEndedOrUnknown(t *testing.T) {
	h := newFixture(t, "node-1")
	a := h.assign(ada)
	c := h.claims(a)
	stranger := c
	stranger.User = "eve"
	if _, err := h.Reassign(t.Context(), stranger, ""); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("another user's: %v", err)
	}
	if err := h.End(t.Context(), a.Session, proto.CloseKicked, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Reassign(t.Context(), c, ""); !errors.Is(err, session.ErrEnded) {
		t.Errorf("ended: %v", err)
	}
	c.Session = session.NewID("ada")
	if _, err := h.Reassign(t.Context(), c, ""); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if h.counts.of("reassigned session_ended ") != 1 || h.counts.of("reassigned not_found ") != 2 {
		t.Errorf("counted %v", h.counts.n)
	}
}

func TestReassignWithoutAStore(t *testing.T) {
	h := newFixture(t, "node-1", "node-2")
	a := h.assign(ada)
	c := h.claims(a)
	h.store.down = errDown
	if _, err := h.Reassign(t.Context(), c, a.Node.ID); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if n := h.pending(other(a.Node.ID)); n != 0 {
		t.Errorf("%d pending", n)
	}
	if sent := h.commands(); len(sent) != 0 {
		t.Errorf("sent %+v", sent)
	}
}
