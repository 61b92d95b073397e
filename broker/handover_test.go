package broker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// handsOver makes the nodes hand sessions over, as node.Node does.
func (h *fixture) handsOver() {
	h.answers(func(ctx context.Context, from string, cmd proto.Command) (proto.CommandResult, error) {
		if cmd.Op != proto.OpMove {
			return proto.CommandResult{Found: true}, nil
		}
		saved := session.Saved{
			Lease:  session.Lease{ID: cmd.Session, Node: from, Epoch: cmd.Epoch},
			Stream: "stream-1", State: []byte("all of it"), Seq: 1, TTL: time.Minute,
		}
		if _, err := h.store.Move(ctx, session.NewRequest(), saved, cmd.To); err != nil {
			return proto.CommandResult{Found: true, Result: proto.MoveBusy}, nil
		}
		return proto.CommandResult{Found: true, Result: proto.MoveDone}, nil
	})
}

// A session that leaves a live node keeps its stream, whatever the reason.
func TestHandOver(t *testing.T) {
	for _, reason := range []string{"draining", "unreachable", "rebalance"} {
		t.Run(reason, func(t *testing.T) {
			h := newFixture(t, "node-1", "node-2")
			h.handsOver()
			a := h.assign(ada)
			l := h.attach(a)
			unreachable := ""
			switch reason {
			case "draining":
				h.report(a.Node.ID, proto.StateDraining, 1)
			case "unreachable":
				unreachable = a.Node.ID
			case "rebalance":
				r, err := h.store.Get(t.Context(), l.ID)
				if err != nil {
					t.Fatal(err)
				}
				r.Leaving = true
				if err := h.store.Renew(t.Context(), []session.Record{r}, []time.Duration{time.Hour})[0]; err != nil {
					t.Fatal(err)
				}
			}
			b := h.reconnect(a, unreachable)
			if b.Node.ID != other(a.Node.ID) || h.claims(b).Epoch != 2 {
				t.Fatalf("got %+v", b)
			}
			_, found, err := h.store.Restore(t.Context(), session.Lease{ID: l.ID, Node: b.Node.ID, Epoch: 2})
			if err != nil || string(found.State) != "all of it" {
				t.Errorf("the next node finds %+v, %v", found, err)
			}
			if h.counts.of("reassigned ok "+reason) != 1 || h.counts.of("commanded move carried_out") != 1 {
				t.Errorf("counted %v", h.counts.n)
			}
			if sent := h.commands(); len(sent) != 1 {
				t.Errorf("sent %+v", sent)
			}
			if h.pending(b.Node.ID) != 1 {
				t.Errorf("%d pending", h.pending(b.Node.ID))
			}
		})
	}
}

// A node that does not hand a session over keeps it, and the client stays. The
// exception is a node that the client cannot reach and that does not answer: it
// loses the session.
func TestHandOverRefused(t *testing.T) {
	for _, tc := range []struct {
		name        string
		unreachable bool
		result      proto.CommandResult
		err         error
		reason      string
		moves       bool
	}{
		{"held", false, proto.CommandResult{Found: true, Result: proto.MoveHeld}, nil, "held", false},
		{"busy", false, proto.CommandResult{Found: true, Result: proto.MoveBusy}, nil, "busy", false},
		{"no snapshot", false, proto.CommandResult{Found: true, Error: "too large"}, nil, "busy", false},
		{"no answer", false, proto.CommandResult{}, errors.New("no answer"), "busy", false},
		{"not held", false, proto.CommandResult{}, nil, "draining", true},
		{"unreachable and busy", true, proto.CommandResult{Found: true, Result: proto.MoveBusy}, nil, "busy", false},
		{"unreachable and no answer", true, proto.CommandResult{}, errors.New("no answer"), "unreachable", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newFixture(t, "node-1", "node-2")
			h.answers(func(_ context.Context, _ string, cmd proto.Command) (proto.CommandResult, error) {
				if cmd.Op == proto.OpMove {
					return tc.result, tc.err
				}
				return proto.CommandResult{Found: true}, nil
			})
			a := h.assign(ada)
			h.attach(a)
			unreachable := ""
			if tc.unreachable {
				unreachable = a.Node.ID
			} else {
				h.report(a.Node.ID, proto.StateDraining, 1)
			}
			b := h.reconnect(a, unreachable)
			if moved := b.Node.ID != a.Node.ID; moved != tc.moves {
				t.Errorf("sent to %s", b.Node.ID)
			}
			if h.counts.of("reassigned ok "+tc.reason) != 1 {
				t.Errorf("counted %v", h.counts.n)
			}
			if !tc.moves && h.pending(other(a.Node.ID)) != 0 {
				t.Error("the pick was not cancelled")
			}
		})
	}
}

// Reassign does not wait for a node whose probe fails, neither in the first
// request nor in later ones.
func TestHandOverByADeadNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFixture(t, "node-1", "node-2")
		h.answers(neverAnswers(make(chan error, 10)))
		h.probe = func(ctx context.Context, _ string) error {
			select {
			case <-time.After(20 * time.Millisecond):
				return errors.New("connection refused")
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		var there []proto.Assignment // sessions of the dead node
		for len(there) < 2 {
			if a := h.assign(ada); a.Node.ID == "node-1" {
				h.attach(a)
				there = append(there, a)
			}
		}
		for i, want := range []time.Duration{20 * time.Millisecond, 0} {
			start := time.Now()
			if b := h.reconnect(there[i], "node-1"); b.Node.ID != "node-2" {
				t.Errorf("sent to %s", b.Node.ID)
			}
			if took := time.Since(start); took != want {
				t.Errorf("session %d: took %v, want %v", i, took, want)
			}
		}
	})
}

// For a stopped node, Reassign waits until its probe fails and then takes the
// session. If the probe succeeds, it waits as long as a move may take.
func TestHandOverByAStoppedNode(t *testing.T) {
	for name, tc := range map[string]struct {
		probe func(context.Context, string) error
		want  time.Duration
	}{
		"silent":           {func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }, time.Second},
		"ignores commands": {func(context.Context, string) error { return nil }, 2500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newFixture(t, "node-1", "node-2")
				h.answers(neverAnswers(make(chan error, 10)))
				h.probe = tc.probe
				a := h.assign(ada)
				h.attach(a)
				start := time.Now()
				if b := h.reconnect(a, a.Node.ID); b.Node.ID == a.Node.ID {
					t.Errorf("sent back to %s", b.Node.ID)
				}
				if took := time.Since(start); took != tc.want {
					t.Errorf("took %v, want %v", took, tc.want)
				}
			})
		})
	}
}

// Reassign waits for a live node that is slow to answer or whose answer is lost
// and repeated: if it took the session, the stream would be lost.
func TestHandOverByASlowNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFixture(t, "node-1", "node-2")
		h.handsOver()
		answer := h.cluster.answer
		h.answers(func(ctx context.Context, from string, cmd proto.Command) (proto.CommandResult, error) {
			select {
			case <-time.After(1500 * time.Millisecond):
			case <-ctx.Done():
				return proto.CommandResult{}, ctx.Err()
			}
			return answer(ctx, from, cmd)
		})
		a := h.assign(ada)
		l := h.attach(a)
		b := h.reconnect(a, a.Node.ID)
		_, found, err := h.store.Restore(t.Context(), session.Lease{ID: l.ID, Node: b.Node.ID, Epoch: 2})
		if err != nil || string(found.State) != "all of it" {
			t.Errorf("the next node finds %+v, %v", found, err)
		}
	})
}

// The store decides where the session is, whatever the node answers.
func TestHandOverOvertaken(t *testing.T) {
	h := newFixture(t, "node-1", "node-2", "node-3")
	h.answers(func(ctx context.Context, from string, cmd proto.Command) (proto.CommandResult, error) {
		if cmd.Op == proto.OpMove {
			_, err := h.store.Reassign(ctx, "other", session.Record{ID: cmd.Session, Epoch: cmd.Epoch}, "node-3", time.Minute)
			return proto.CommandResult{Found: true, Result: proto.MoveDone}, err
		}
		return proto.CommandResult{Found: true}, nil
	})
	h.report("node-3", proto.StateFull, 1000)
	a := h.assign(ada)
	h.attach(a)
	h.report(a.Node.ID, proto.StateDraining, 1)
	if b := h.reconnect(a, ""); b.Node.ID != "node-3" {
		t.Errorf("sent to %s", b.Node.ID)
	}
	if h.pending(other(a.Node.ID)) != 0 {
		t.Error("the pick was not cancelled")
	}
}

// A node keeps the session if it does not hold it when asked but restores it a
// moment later. If the session were taken then, its stream would be lost.
func TestHandOverByANodeThatAttachesLate(t *testing.T) {
	h := newFixture(t, "node-1", "node-2")
	h.answers(func(context.Context, string, proto.Command) (proto.CommandResult, error) {
		return proto.CommandResult{}, nil
	})
	a := h.assign(ada)
	h.store.overtake = func(string) error {
		h.attach(a)
		return nil
	}
	b := h.reconnect(a, a.Node.ID)
	if b.Node.ID != a.Node.ID || h.claims(b).Epoch != 1 || h.counts.of("reassigned ok followed") != 1 {
		t.Errorf("got %+v, counted %v", b, h.counts.n)
	}
	h.store.overtake = nil
	if b := h.reconnect(a, a.Node.ID); b.Node.ID == a.Node.ID || h.claims(b).Epoch != 2 {
		t.Errorf("asked again: %+v", b)
	}
}

// A draining node that is the only one keeps serving its sessions.
func TestDrainingAlone(t *testing.T) {
	h := newFixture(t, "node-1")
	a, never := h.assign(ada), h.assign(ada)
	h.attach(a)
	h.report("node-1", proto.StateDraining, 2)
	if b := h.reconnect(a, ""); b.Node.ID != "node-1" || h.counts.of("reassigned ok only_one") != 1 {
		t.Errorf("got %+v, counted %v", b, h.counts.n)
	}
	if _, err := h.Reassign(t.Context(), h.claims(never), ""); err == nil {
		t.Errorf("a session that never attached there: %v", err)
	}
}

// A node that was found gone and is back is asked to hand over its sessions, even
// within probeSpacing: the old probe result no longer counts.
func TestHandOverByANodeThatIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFixture(t, "node-1", "node-2")
		h.handsOver()
		answer := h.cluster.answer
		h.answers(func(ctx context.Context, from string, cmd proto.Command) (proto.CommandResult, error) {
			select {
			case <-time.After(10 * time.Millisecond): // network latency
			case <-ctx.Done():
				return proto.CommandResult{}, ctx.Err()
			}
			return answer(ctx, from, cmd)
		})
		a := h.assign(ada)
		home := a.Node.ID
		h.probe = func(context.Context, string) error { return errRefused }
		h.reconnect(a, home) // to the other node: its own is gone
		synctest.Wait()
		h.report(home, proto.StateReady, 0)
		h.report(other(home), proto.StateDraining, 0) // so that the next session is assigned to home
		b := h.assign(proto.AssignmentRequest{User: "bob"})
		if b.Node.ID != home {
			t.Fatalf("assigned to %s", b.Node.ID)
		}
		l := h.attach(b)
		h.report(home, proto.StateReady, 1)
		h.report(other(home), proto.StateReady, 0)
		c := h.reconnect(b, home)
		_, found, err := h.store.Restore(t.Context(), session.Lease{ID: l.ID, Node: c.Node.ID, Epoch: 2})
		if err != nil || c.Node.ID != other(home) || string(found.State) != "all of it" {
			t.Errorf("at %s with %q, %v", c.Node.ID, found.State, err)
		}
	})
}
