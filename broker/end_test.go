package broker_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

func TestEnd(t *testing.T) {
	h := newHouse(t, "node-1")
	a := h.assign(ada)
	for range 2 { // the second changes nothing, but a command may have been lost
		if err := h.End(t.Context(), a.Session, proto.CloseKicked, ""); err != nil {
			t.Fatal(err)
		}
	}
	r, err := h.Session(t.Context(), a.Session)
	if !errors.Is(err, session.ErrEnded) || r.State != session.Ended || r.Reason != proto.CloseKicked {
		t.Errorf("record %+v, %v", r, err)
	}
	one := order{"node-1", proto.Command{Op: proto.OpEnd, Session: a.Session, Code: proto.CloseKicked}}
	if sent := h.commands(); !slices.Equal(sent, []order{one, one}) {
		t.Errorf("sent %+v", sent)
	}
	if h.counts.of("ended ok") != 2 || h.counts.of("commanded end carried_out") != 2 {
		t.Errorf("counted %v", h.counts.n)
	}
}

// As long as a token of it is good, a session that is over is known to be.
func TestEndOutlivesTheTokens(t *testing.T) {
	h := newHouse(t, "node-1")
	a := h.assign(ada)
	h.attach(a)
	h.clock.pass(time.Minute)
	last := h.back(a, "")
	if err := h.End(t.Context(), a.Session, proto.CloseSessionEnded, ""); err != nil {
		t.Fatal(err)
	}
	h.clock.pass(last.TokenExpiresAt.Add(time.Minute).Sub(h.clock.now()))
	if _, err := h.Session(t.Context(), a.Session); !errors.Is(err, session.ErrEnded) {
		t.Errorf("a minute after the token's end: %v", err)
	}
}

func TestEndOfWhatIsNotThere(t *testing.T) {
	h := newHouse(t, "node-1")
	for _, id := range []string{"", "no such form", "{a}*", session.NewID("ada")} {
		if err := h.End(t.Context(), id, proto.CloseKicked, ""); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("%q: %v", id, err)
		}
		if _, err := h.Session(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("read %q: %v", id, err)
		}
	}
	h.store.down = errDown
	if err := h.End(t.Context(), session.NewID("ada"), proto.CloseKicked, ""); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("without a store: %v", err)
	}
}

// The statuses of a command to a member.
func TestCommandFates(t *testing.T) {
	for status, answer := range map[string]func(context.Context, string, proto.Command) (proto.CommandResult, error){
		"not_held": func(context.Context, string, proto.Command) (proto.CommandResult, error) {
			return proto.CommandResult{}, nil
		},
		"refused": func(context.Context, string, proto.Command) (proto.CommandResult, error) {
			return proto.CommandResult{Error: "shutting down"}, nil
		},
		"unanswered": func(context.Context, string, proto.Command) (proto.CommandResult, error) {
			return proto.CommandResult{}, errors.New("unreachable")
		},
	} {
		h := newHouse(t, "node-1")
		h.answers(answer)
		if err := h.End(t.Context(), h.assign(ada).Session, proto.CloseKicked, ""); err != nil {
			t.Fatal(err)
		}
		h.Close()
		if h.counts.of("commanded end "+status) != 1 {
			t.Errorf("%s: counted %v", status, h.counts.n)
		}
	}
}

// silence is a node that does not answer; it tells why each command ended.
func silence(ended chan<- error) func(context.Context, string, proto.Command) (proto.CommandResult, error) {
	return func(ctx context.Context, _ string, _ proto.Command) (proto.CommandResult, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return proto.CommandResult{}, ctx.Err()
	}
}

// Nobody waits for a node that does not answer. It is given a while, or until
// the broker closes.
func TestCommandsAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "node-1")
		ended := make(chan error, 2)
		h.answers(silence(ended))
		end := func() {
			t.Helper()
			start := time.Now()
			if err := h.End(t.Context(), h.assign(ada).Session, proto.CloseKicked, ""); err != nil || time.Since(start) != 0 {
				t.Errorf("End took %v: %v", time.Since(start), err)
			}
		}
		end()
		start := time.Now()
		if err := <-ended; err != context.DeadlineExceeded || time.Since(start) != 5*time.Second {
			t.Errorf("ended after %v: %v", time.Since(start), err)
		}
		end()
		synctest.Wait()
		start = time.Now()
		h.Close()
		if err := <-ended; err != context.Canceled || time.Since(start) != 0 {
			t.Errorf("with Close, after %v: %v", time.Since(start), err)
		}
		end() // nobody is told any more, but the session is over
		if n := h.counts.of("commanded end crowded"); n != 1 {
			t.Errorf("counted %v", h.counts.n)
		}
	})
}

// Commands that are too many at once are dropped and counted; those that end
// make room, and one kind does not take the room of the other.
func TestManyCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for _, id := range []string{"node-1", "node-2"} {
			h.join(id, func(p *proto.Peer) { p.Capacity = 10_000 })
		}
		const most = 2048
		h.answers(silence(make(chan error, 3*most)))
		end := func(n int) {
			t.Helper()
			for range n {
				if err := h.End(t.Context(), h.assign(ada).Session, proto.CloseKicked, ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		end(most + 3)
		if n := h.counts.of("commanded end crowded"); n != 3 {
			t.Errorf("%d dropped", n)
		}
		a := h.assign(ada)
		h.back(a, a.Node.ID)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		end(most)
		if end, moved := h.counts.of("commanded end crowded"), h.counts.of("commanded moved crowded"); end != 3 || moved != 0 {
			t.Errorf("%d and %d dropped", end, moved)
		}
	})
}
