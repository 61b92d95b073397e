package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// A node that other members cannot reach learns from the store that a session has
// ended.
func TestStoreFence(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims, kept := r.login("ada"), r.login("bob")
	c, c2 := r.attach(claims, ""), r.attach(kept, "")
	eventually(t, func() error { // the lease keeper has checked once
		if got, err := r.store.Get(t.Context(), claims.Session); err != nil || got.State != session.Attached {
			return fmt.Errorf("%+v, %v", got, err)
		}
		return nil
	})
	time.Sleep(r.node.cfg.tick() + 200*time.Millisecond)
	if _, err := r.store.End(t.Context(), claims.Session, 0, proto.CloseKicked, "cheating", time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := r.store.Fence(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if code := c.closed(); code != int(proto.CloseKicked) {
		t.Errorf("closed with %d", code)
	}
	if took := time.Since(began); took > r.node.cfg.RenewInterval/2 {
		t.Errorf("closed after %v", took)
	}
	c2.send(text("x"))
	if m := c2.message(); string(m.Data) != "x" {
		t.Errorf("got %q", m.Data)
	}
}

// slowStore blocks renewals.
type slowStore struct {
	session.Store
	entered chan struct{}
	open    chan struct{}
}

func (s *slowStore) Renew(ctx context.Context, records []session.Record, ttls []time.Duration) []error {
	select {
	case s.entered <- struct{}{}:
	default:
	}
	<-s.open
	return s.Store.Renew(ctx, records, ttls)
}

// A node that did not run for too long asks the store before it delivers anything.
// Sessions that belong to another node are closed as moved; the other sessions
// continue.
func TestStallThenMoved(t *testing.T) {
	j := newCallRecorder()
	slow := &slowStore{entered: make(chan struct{}, 1), open: make(chan struct{})}
	r := newRig(t, j, func(c *Config) { slow.Store, c.Store = wholeStore(c), slow })
	lost, kept := r.login("lost"), r.login("kept")
	c, c2 := r.attach(lost, ""), r.attach(kept, "")
	stall := func() { r.node.leases.Suspect() }
	stall()
	for waiting := true; waiting; { // a beat may have come in between
		select {
		case <-slow.entered:
			waiting = !r.node.leases.Stalled()
		case <-time.After(10 * time.Millisecond):
		}
		if waiting {
			stall()
		}
	}
	if _, err := r.store.Reassign(t.Context(), "r", session.Record{ID: lost.Session, Epoch: 1}, "node-2", time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client{c, c2} {
		c.send(text("x"))
	}
	j.await(t, "lost", "opened")
	j.await(t, "kept", "opened")
	close(slow.open)
	if code := c.closed(); code != int(proto.CloseMoved) {
		t.Errorf("closed with %d", code)
	}
	j.await(t, "kept", "opened", "message x")
	j.await(t, "lost", "opened", "closed moved")
	c2.send(text("y"))
	j.await(t, "kept", "opened", "message x", "message y")
}
