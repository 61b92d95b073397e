package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/proto"
)

// plainNode returns a node that Run does not run.
func plainNode(t testing.TB) *Node {
	t.Helper()
	store := memory.New(time.Now)
	t.Cleanup(func() { store.Close() })
	n, err := New(Config{ID: "node-1", App: Echo{}, Store: store, Verifier: plainVerifier{}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Nothing would carry out a drain of a node that does not run, and a caller that
// waits for its end would wait for ever.
func TestDrainWithoutRun(t *testing.T) {
	n := plainNode(t)
	if err := n.Drain(DrainPlan{}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Drain returned %v", err)
	}
	if r := n.Command(t.Context(), "auth", proto.Command{Op: proto.OpDrain}); r.Error == "" {
		t.Errorf("the command was answered with %+v", r)
	}
	if n.State() != proto.StateReady || n.Draining() != nil {
		t.Errorf("the node is %v, drain %+v", n.State(), n.Draining())
	}
	if err := n.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if !isClosed(n.Drained()) {
		t.Error("Drained is open after Shutdown")
	}
}

func TestRunTwice(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	if err := r.node.Run(t.Context()); err == nil {
		t.Error("a second Run returned no error")
	}
}

// A drain that is interrupted because Run ends closes Drained as well: a session that
// the application holds would keep it open until the deadline.
func TestDrainedClosesWithRun(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	r.attach(r.login("ada"), "")
	r.node.Sessions(func(s *Session) bool { s.Hold(); return true })
	if err := r.node.Drain(DrainPlan{Window: time.Millisecond, Timeout: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if isClosed(r.node.Drained()) {
		t.Fatal("Drained is closed while a session is held")
	}
	r.endRun()
	if !isClosed(r.node.Drained()) {
		t.Error("Drained is open after Run has ended")
	}
}

// The last drain of a process cannot be canceled, kept or extended by another member.
func TestFinalDrain(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	r.attach(r.login("ada"), "")
	r.node.Sessions(func(s *Session) bool { s.Hold(); return true })
	if err := r.node.Drain(DrainPlan{Window: time.Millisecond, Timeout: time.Second, Final: true}); err != nil {
		t.Fatal(err)
	}
	if err := r.node.Undrain(); !errors.Is(err, ErrStopping) {
		t.Errorf("Undrain returned %v", err)
	}
	if got := r.node.Command(t.Context(), "broker", proto.Command{Op: proto.OpUndrain}); got.Error == "" {
		t.Errorf("the command to cancel was answered with %+v", got)
	}
	r.node.Command(t.Context(), "broker", proto.Command{Op: proto.OpDrain, Drain: &proto.DrainRequest{TimeoutMS: 3_600_000, Keep: true}})
	if d := r.node.Draining(); d == nil || d.Keep || time.Until(d.Deadline) > time.Second {
		t.Errorf("the drain became %+v", d)
	}
	select {
	case <-r.node.Drained():
	case <-time.After(20 * time.Second):
		t.Error("Drained is still open")
	}
}

// slowEnds is a store that refuses to end sessions for a while.
type slowEnds struct {
	session.Store
	refuse atomic.Int32 // calls yet to refuse
}

func (s *slowEnds) EndAll(ctx context.Context, list []session.Ending, ttl time.Duration) []error {
	if s.refuse.Add(-1) < 0 {
		return s.Store.EndAll(ctx, list, ttl)
	}
	errs := make([]error, len(list))
	for i := range errs {
		errs[i] = fmt.Errorf("%w: refused by the test", session.ErrUnavailable)
	}
	return errs
}

// Sessions that the application ends right before Shutdown are ended in the store
// when Shutdown returns, also when the store fails meanwhile. Otherwise their users
// could not log in while duplicate logins are rejected.
func TestEndsReachTheStoreBeforeShutdownReturns(t *testing.T) {
	const many = 100
	var store *slowEnds
	r := newRig(t, Echo{}, func(c *Config) {
		c.RenewInterval = time.Hour // nothing else writes to the store
		c.PingInterval = time.Hour
		store = &slowEnds{Store: wholeStore(c)}
		c.Store = store
	})
	var ids []string
	for i := range many {
		claims := r.login(fmt.Sprint("user-", i))
		r.attach(claims, "")
		ids = append(ids, claims.Session)
	}
	store.refuse.Store(5)
	r.node.Sessions(func(s *Session) bool {
		if err := s.Close(4500, "match over"); err != nil {
			t.Error(err)
		}
		return true
	})
	if err := r.node.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if rec, err := store.Get(t.Context(), id); !errors.Is(err, session.ErrEnded) || rec.Reason != 4500 {
			t.Fatalf("session %s: %+v, %v", id, rec, err)
		}
	}
}

// Shutdown says so when the store did not take the ends in time.
func TestShutdownReportsUnknownEnds(t *testing.T) {
	var store *slowEnds
	r := newRig(t, Echo{}, func(c *Config) {
		store = &slowEnds{Store: wholeStore(c)}
		c.Store = store
	})
	r.attach(r.login("ada"), "")
	store.refuse.Store(1 << 20)
	r.node.Sessions(func(s *Session) bool { return s.Close(4500, "match over") == nil })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := r.node.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown returned %v", err)
	}
	store.refuse.Store(0)
}
