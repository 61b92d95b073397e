package node

import (
	"context"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// slowStore lets renewals wait.
type slowStore struct {
	session.Store
	came chan struct{}
	open chan struct{}
}

func (s *slowStore) Renew(ctx context.Context, records []session.Record, ttls []time.Duration) []error {
	select {
	case s.came <- struct{}{}:
	default:
	}
	<-s.open
	return s.Store.Renew(ctx, records, ttls)
}

// A node that stood still asks the store before it delivers anything: what has
// become another's is closed as moved, the rest goes on.
func TestStallThenMoved(t *testing.T) {
	j := newJournal()
	slow := &slowStore{came: make(chan struct{}, 1), open: make(chan struct{})}
	r := newRig(t, j, func(c *Config) { slow.Store, c.Store = c.Store, slow })
	lost, kept := r.login("lost"), r.login("kept")
	c, c2 := r.attach(lost, ""), r.attach(kept, "")
	stall := func() { r.node.fence.pulse.Store(0) }
	stall()
	for waiting := true; waiting; { // the beat may have come in between
		select {
		case <-slow.came:
			waiting = !r.node.fence.stalled()
		case <-time.After(10 * time.Millisecond):
		}
		if waiting {
			stall()
		}
	}
	if _, err := r.store.Reassign(t.Context(), "r", lost.Session, 1, "node-2", time.Minute); err != nil {
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
