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

// hands has the nodes hand sessions over, as node.Node does.
func (h *house) hands() {
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

// A session that leaves a node that lives takes everything along, whatever the
// reason.
func TestHandOver(t *testing.T) {
	for _, reason := range []string{"draining", "unreachable", "rebalance"} {
		t.Run(reason, func(t *testing.T) {
			h := newHouse(t, "node-1", "node-2")
			h.hands()
			a := h.assign(ada)
			l := h.attach(a)
			unreachable := ""
			switch reason {
			case "draining":
				h.says(a.Node.ID, proto.StateDraining, 1)
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
			b := h.back(a, unreachable)
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

// A node that does not hand a session over keeps it, and the client is told to
// stay; but one that the client cannot reach and that does not answer loses it.
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
			h := newHouse(t, "node-1", "node-2")
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
				h.says(a.Node.ID, proto.StateDraining, 1)
			}
			b := h.back(a, unreachable)
			if moved := b.Node.ID != a.Node.ID; moved != tc.moves {
				t.Errorf("sent to %s", b.Node.ID)
			}
			if h.counts.of("reassigned ok "+tc.reason) != 1 {
				t.Errorf("counted %v", h.counts.n)
			}
			if !tc.moves && h.pending(other(a.Node.ID)) != 0 {
				t.Error("the pick was not taken back")
			}
		})
	}
}

// A silent node is not waited for, and one that is found to be gone no longer.
func TestHandOverOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "node-1", "node-2")
		h.answers(silence(make(chan error, 10)))
		h.probe = func(ctx context.Context, _ string) error {
			select {
			case <-time.After(20 * time.Millisecond):
				return errors.New("connection refused")
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		var there []proto.Assignment // sessions of the node that dies
		for len(there) < 2 {
			if a := h.assign(ada); a.Node.ID == "node-1" {
				h.attach(a)
				there = append(there, a)
			}
		}
		for i, want := range []time.Duration{20 * time.Millisecond, 0} {
			start := time.Now()
			if b := h.back(there[i], "node-1"); b.Node.ID != "node-2" {
				t.Errorf("sent to %s", b.Node.ID)
			}
			if took := time.Since(start); took != want {
				t.Errorf("session %d: took %v, want %v", i, took, want)
			}
		}
	})
}

// A node that stands still is waited for until the probe of it fails, and then
// the session goes; if the probe does not fail, for as long as a move may take.
func TestHandOverOfTheFrozen(t *testing.T) {
	for name, tc := range map[string]struct {
		probe func(context.Context, string) error
		want  time.Duration
	}{
		"silent":           {func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }, time.Second},
		"deaf to commands": {func(context.Context, string) error { return nil }, 2500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, "node-1", "node-2")
				h.answers(silence(make(chan error, 10)))
				h.probe = tc.probe
				a := h.assign(ada)
				h.attach(a)
				start := time.Now()
				if b := h.back(a, a.Node.ID); b.Node.ID == a.Node.ID {
					t.Errorf("sent back to %s", b.Node.ID)
				}
				if took := time.Since(start); took != tc.want {
					t.Errorf("took %v, want %v", took, tc.want)
				}
			})
		})
	}
}

// A node that lives and is slow to answer, or whose answer is lost and asked for
// again, is waited for: taken from it, the session would lose its stream.
func TestHandOverByTheSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "node-1", "node-2")
		h.hands()
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
		b := h.back(a, a.Node.ID)
		_, found, err := h.store.Restore(t.Context(), session.Lease{ID: l.ID, Node: b.Node.ID, Epoch: 2})
		if err != nil || string(found.State) != "all of it" {
			t.Errorf("the next node finds %+v, %v", found, err)
		}
	})
}

// The session is where the store says, whatever the node says.
func TestHandOverOvertaken(t *testing.T) {
	h := newHouse(t, "node-1", "node-2", "node-3")
	h.answers(func(ctx context.Context, from string, cmd proto.Command) (proto.CommandResult, error) {
		if cmd.Op == proto.OpMove {
			_, err := h.store.Reassign(ctx, "other", session.Record{ID: cmd.Session, Epoch: cmd.Epoch}, "node-3", time.Minute)
			return proto.CommandResult{Found: true, Result: proto.MoveDone}, err
		}
		return proto.CommandResult{Found: true}, nil
	})
	h.says("node-3", proto.StateFull, 1000)
	a := h.assign(ada)
	h.attach(a)
	h.says(a.Node.ID, proto.StateDraining, 1)
	if b := h.back(a, ""); b.Node.ID != "node-3" {
		t.Errorf("sent to %s", b.Node.ID)
	}
	if h.pending(other(a.Node.ID)) != 0 {
		t.Error("the pick was not taken back")
	}
}

// A node that has nothing to hand over, and takes up what is laid down for it the
// moment after, keeps the session: taken then, it would lose its stream.
func TestHandOverByANodeThatIsReachedAfterAll(t *testing.T) {
	h := newHouse(t, "node-1", "node-2")
	h.answers(func(context.Context, string, proto.Command) (proto.CommandResult, error) {
		return proto.CommandResult{}, nil
	})
	a := h.assign(ada)
	h.store.overtake = func(string) error {
		h.attach(a)
		return nil
	}
	b := h.back(a, a.Node.ID)
	if b.Node.ID != a.Node.ID || h.claims(b).Epoch != 1 || h.counts.of("reassigned ok followed") != 1 {
		t.Errorf("got %+v, counted %v", b, h.counts.n)
	}
	h.store.overtake = nil
	if b := h.back(a, a.Node.ID); b.Node.ID == a.Node.ID || h.claims(b).Epoch != 2 {
		t.Errorf("asked again: %+v", b)
	}
}

// A node that drains and is the only one serves on what it has.
func TestDrainingAlone(t *testing.T) {
	h := newHouse(t, "node-1")
	a, never := h.assign(ada), h.assign(ada)
	h.attach(a)
	h.says("node-1", proto.StateDraining, 2)
	if b := h.back(a, ""); b.Node.ID != "node-1" || h.counts.of("reassigned ok only_one") != 1 {
		t.Errorf("got %+v, counted %v", b, h.counts.n)
	}
	if _, err := h.Reassign(t.Context(), h.claims(never), ""); err == nil {
		t.Errorf("one that it does not have: %v", err)
	}
}

// A node that was found to be gone and is back is asked for its sessions, though
// that was a moment ago: what was found out about it before does not count.
func TestHandOverByANodeThatIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "node-1", "node-2")
		h.hands()
		answer := h.cluster.answer
		h.answers(func(ctx context.Context, from string, cmd proto.Command) (proto.CommandResult, error) {
			select {
			case <-time.After(10 * time.Millisecond): // as the network takes
			case <-ctx.Done():
				return proto.CommandResult{}, ctx.Err()
			}
			return answer(ctx, from, cmd)
		})
		a := h.assign(ada)
		home := a.Node.ID
		h.probe = func(context.Context, string) error { return errRefused }
		h.back(a, home) // to the other one: its own is gone
		synctest.Wait()
		h.says(home, proto.StateReady, 0)
		h.says(other(home), proto.StateDraining, 0) // so that the next goes home
		b := h.assign(proto.AssignmentRequest{User: "bob"})
		if b.Node.ID != home {
			t.Fatalf("assigned to %s", b.Node.ID)
		}
		l := h.attach(b)
		h.says(home, proto.StateReady, 1)
		h.says(other(home), proto.StateReady, 0)
		c := h.back(b, home)
		_, found, err := h.store.Restore(t.Context(), session.Lease{ID: l.ID, Node: c.Node.ID, Epoch: 2})
		if err != nil || c.Node.ID != other(home) || string(found.State) != "all of it" {
			t.Errorf("at %s with %q, %v", c.Node.ID, found.State, err)
		}
	})
}
