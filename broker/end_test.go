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
	h := newFixture(t, "node-1")
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
	one := sentCommand{"node-1", proto.Command{Op: proto.OpEnd, Session: a.Session, Code: proto.CloseKicked}}
	if sent := h.commands(); !slices.Equal(sent, []sentCommand{one, one}) {
		t.Errorf("sent %+v", sent)
	}
	if h.counts.of("ended ok") != 2 || h.counts.of("commanded end carried_out") != 2 {
		t.Errorf("counted %v", h.counts.n)
	}
}

// An ended session is remembered as long as one of its tokens is valid.
func TestEndOutlivesTheTokens(t *testing.T) {
	h := newFixture(t, "node-1")
	a := h.assign(ada)
	h.attach(a)
	h.clock.advance(time.Minute)
	last := h.reconnect(a, "")
	if err := h.End(t.Context(), a.Session, proto.CloseSessionEnded, ""); err != nil {
		t.Fatal(err)
	}
	h.clock.advance(last.TokenExpiresAt.Add(time.Minute).Sub(h.clock.now()))
	if _, err := h.Session(t.Context(), a.Session); !errors.Is(err, session.ErrEnded) {
		t.Errorf("a minute after the token's end: %v", err)
	}
}

func TestEndUnknownSession(t *testing.T) {
	h := newFixture(t, "node-1")
	for _, id := range []string{"", "not an id", "{a}*", session.NewID("ada")} {
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

// The status of a command depends on the member's answer.
func TestCommandStatuses(t *testing.T) {
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
		h := newFixture(t, "node-1")
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

// neverAnswers makes nodes not answer. It sends the error of each command's
// context to ended.
func neverAnswers(ended chan<- error) func(context.Context, string, proto.Command) (proto.CommandResult, error) {
	return func(ctx context.Context, _ string, _ proto.Command) (proto.CommandResult, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return proto.CommandResult{}, ctx.Err()
	}
}

// End does not wait for a node that does not answer. The command is tried until
// its timeout, or until the broker closes.
func TestCommandsAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFixture(t, "node-1")
		ended := make(chan error, 2)
		h.answers(neverAnswers(ended))
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
		end() // no node is notified any more, but the session has ended
		if n := h.counts.of("commanded end too_many"); n != 1 {
			t.Errorf("counted %v", h.counts.n)
		}
	})
}

// Commands over the limit are dropped and counted. Commands that end free their
// slots, and each kind has its own slots.
func TestManyCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFixture(t)
		for _, id := range []string{"node-1", "node-2"} {
			h.join(id, func(p *proto.Peer) { p.Capacity = 10_000 })
		}
		const most = 2048
		h.answers(neverAnswers(make(chan error, 3*most)))
		end := func(n int) {
			t.Helper()
			for range n {
				if err := h.End(t.Context(), h.assign(ada).Session, proto.CloseKicked, ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		end(most + 3)
		if n := h.counts.of("commanded end too_many"); n != 3 {
			t.Errorf("%d dropped", n)
		}
		a := h.assign(ada)
		h.reconnect(a, a.Node.ID)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		end(most)
		if end, moved := h.counts.of("commanded end too_many"), h.counts.of("commanded moved too_many"); end != 3 || moved != 0 {
			t.Errorf("%d and %d dropped", end, moved)
		}
	})
}
