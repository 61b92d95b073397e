package node

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// lateRenewals holds back one renewal until open is closed.
type lateRenewals struct {
	session.Store
	next    atomic.Bool   // the next renewal is held back
	entered chan struct{} // closed when one is
	open    chan struct{}
}

func (l *lateRenewals) Renew(ctx context.Context, records []session.Record, ttls []time.Duration) []error {
	if l.next.Swap(false) {
		close(l.entered)
		<-l.open
	}
	return l.Store.Renew(ctx, records, ttls)
}

// A renewal that was under way when a rebalance asked the session to leave does not undo
// what the brokers must read in the store.
func TestLateRenewalKeepsLeaving(t *testing.T) {
	store := &lateRenewals{entered: make(chan struct{}), open: make(chan struct{})}
	r := newRig(t, Echo{}, func(c *Config) {
		c.RenewInterval = 20 * time.Second
		store.Store = wholeStore(c)
		c.Store = store
	})
	claims := r.login("ada")
	r.attach(claims, "")
	store.next.Store(true)
	r.node.leases.Changed(&r.node.session(claims.Session).lease)
	<-store.entered
	r.node.shedTo(0)
	leaving := func() error {
		rec, err := r.store.Get(t.Context(), claims.Session)
		if err == nil && !rec.Leaving {
			err = errors.New("the record does not say that the session is to leave")
		}
		return err
	}
	eventually(t, leaving)
	close(store.open)
	time.Sleep(50 * time.Millisecond) // the late renewal arrives
	eventually(t, leaving)
}

// A session that a rebalance cannot ask, because a drain that was canceled has asked it
// already, may stay.
func TestShedLeavesOutAskedSessions(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	if err := r.node.Drain(DrainPlan{Window: time.Millisecond, Keep: true}); err != nil {
		t.Fatal(err)
	}
	if ctl := c.control(); ctl.Type != proto.TypeGoAway {
		t.Fatalf("got %+v, want a goaway", ctl)
	}
	if err := r.node.Undrain(); err != nil {
		t.Fatal(err)
	}
	s := r.node.session(claims.Session)
	s.mu.Lock()
	s.goAwayAt = 0 // long ago
	s.mu.Unlock()
	r.node.shedTo(0)
	r.node.mu.Lock()
	r.node.shed.tokens = 10
	r.node.mu.Unlock()
	r.node.stepShed(t.Context(), time.Now())
	if n := r.node.leaving.Load(); n != 0 {
		t.Errorf("%d sessions count as leaving, and none was asked", n)
	}
}

// A draining connection counts as departed once, however often its end is noticed.
func TestDepartsOnce(t *testing.T) {
	r := newRig(t, newCountingApp(), nil)
	claims := r.login("ada")
	r.attach(claims, "")
	r.mustMove(claims, "node-2")
	var left *conn
	r.node.drainingConns.Range(func(c, _ any) bool { left = c.(*conn); return false })
	if left == nil {
		t.Fatal("the connection of the session that has moved does not drain")
	}
	left.detach(0)
	left.detach(0)
	left.endDraining() // its timer had fired already
	if n := r.node.departing.Load(); n != 0 {
		t.Errorf("departing is %d, want 0", n)
	}
	if left.closing != nil {
		t.Error("a connection that has ended is closed once more")
	}
}
