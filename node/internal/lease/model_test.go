package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// action is one step of a schedule.
type action struct {
	name  string
	lease int           // selects one of those that are kept
	pause time.Duration // after the action
}

// longestOutage leaves time to renew every lease before its ttl passes.
const longestOutage = 30 * time.Second

func actions() *rapid.Generator[[]action] {
	names := rapid.SampledFrom([]string{"add", "add", "add", "change", "checkpoint", "remove", "end", "take over", "end elsewhere", "outage", "stall", "wait"})
	pauses := rapid.SampledFrom([]time.Duration{0, 0, 3 * time.Millisecond, 700 * time.Millisecond, 4 * time.Second, 21 * time.Second})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) action {
		return action{names.Draw(t, "action"), rapid.IntRange(0, 99).Draw(t, "lease"), pauses.Draw(t, "pause")}
	}), 1, 60)
}

// model performs a schedule and knows what must have happened at its end.
type model struct {
	*rig
	kept     []*testOwner // leases that must not be lost
	taken    []*testOwner // that must be lost, once
	released []*testOwner // removed
	ended    []*testOwner // here
	renewals *renewalLog
}

// renewalLog fails the test if a record is renewed only after its ttl has passed.
type renewalLog struct {
	*testStore
	rig *rig

	mu   sync.Mutex
	last map[string]time.Time
}

func (s *renewalLog) Renew(ctx context.Context, records []session.Record, ttls []time.Duration) []error {
	errs := s.testStore.Renew(ctx, records, ttls)
	for i, err := range errs {
		if err == nil {
			s.renewed(records[i].ID)
		}
	}
	return errs
}

func (s *renewalLog) renewed(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.last[id]; !last.IsZero() && time.Since(last) >= testTTL {
		s.rig.fault("lease %s was renewed after %v", id, time.Since(last))
	}
	s.last[id] = time.Now()
}

func (s *renewalLog) age(id string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.last[id])
}

// TestModel performs random schedules over a store with outages and latency. Every
// lease is renewed before its ttl has passed, ends and changes arrive, a lost lease is
// notified once, and an owner is not called after it has released its lease.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		schedule := actions().Draw(rt, "schedule")
		delay := rapid.SampledFrom([]time.Duration{0, time.Millisecond, 80 * time.Millisecond}).Draw(rt, "delay")
		var faults []string
		synctest.Test(t, func(t *testing.T) {
			m := newModel(t, delay)
			stop := m.run()
			for i, a := range schedule {
				m.perform(i, a)
				after(a.pause)
			}
			m.settle()
			stop()
			m.keeper.Close()
			faults = m.faults
		})
		if len(faults) > 0 {
			rt.Fatalf("%q", faults)
		}
	})
}

func newModel(t *testing.T, delay time.Duration) *model {
	m := &model{rig: newRig(t)}
	m.store.delay = delay
	m.renewals = &renewalLog{testStore: m.store, rig: m.rig, last: make(map[string]time.Time)}
	m.keeper.cfg.Store = m.renewals
	return m
}

func (m *model) perform(i int, a action) {
	switch a.name {
	case "add":
		done := m.keeper.Acquiring()
		m.kept = append(m.kept, m.rig.add(fmt.Sprint("user ", i)))
		done()
	case "outage":
		m.store.down.Store(true)
		after(min(a.pause+time.Duration(a.lease)*time.Second, longestOutage))
		m.store.down.Store(false)
		after(testInterval) // so that two outages do not last longer than a ttl
	case "stall":
		m.stall(time.Minute)
	case "wait":
	default:
		if len(m.kept) > 0 {
			n := a.lease % len(m.kept)
			m.performOn(m.kept[n], n, a)
		}
	}
}

// performOn performs the action on the lease number n of those that are kept.
func (m *model) performOn(o *testOwner, n int, a action) {
	var list *[]*testOwner
	switch a.name {
	case "change":
		o.set(func(r *session.Record) { r.Leaving = !r.Leaving })
		return
	case "checkpoint":
		m.keeper.Checkpoint(&o.lease)
		return
	case "remove":
		list = &m.released
		o.remove()
	case "end":
		list = &m.ended
		o.end(proto.CloseSessionEnded)
	case "take over":
		list = &m.taken
		m.takeOver(o, a.lease%2 == 0)
	case "end elsewhere":
		list = &m.taken
		if _, err := m.store.End(context.Background(), o.lease.ID, 0, proto.CloseKicked, "", time.Hour); err != nil {
			m.fault("end: %v", err)
		}
	}
	m.kept = slices.Delete(m.kept, n, n+1)
	*list = append(*list, o)
}

// settle waits until everything has reached the store, and checks it.
func (m *model) settle() {
	after(testInterval + 3*time.Second)
	for _, o := range m.kept {
		rec, err := m.recordOf(o)
		switch {
		case err != nil:
			m.fault("a lease that is kept: %v", err)
		case rec.Leaving != o.record.Leaving:
			m.fault("the store does not know of a change")
		case o.losses() > 0:
			m.fault("lost without a reason: %v", o.lost)
		case o.storedSeq() != o.seq:
			m.fault("checkpoint %d is stored, the last one is %d", o.storedSeq(), o.seq)
		case m.renewals.age(o.lease.ID) > testInterval+3*time.Second:
			m.fault("last renewal %v ago", m.renewals.age(o.lease.ID))
		}
	}
	for _, o := range m.taken {
		if o.losses() != 1 {
			m.fault("%d losses of a lease that was taken", o.losses())
		}
	}
	for _, o := range m.released {
		if o.losses() != 0 {
			m.fault("an owner was notified after it had released its lease")
		}
	}
	for _, o := range m.ended {
		if rec, err := m.recordOf(o); !errors.Is(err, session.ErrEnded) || rec.Reason != proto.CloseSessionEnded {
			m.fault("ended here: %+v, %v", rec, err)
		}
	}
	if m.keeper.Stalled() || m.keeper.Down() {
		m.fault("stalled is %v, down is %v", m.keeper.Stalled(), m.keeper.Down())
	}
	for range 10 { // a renewal may be in progress; its lease is not in the wheel
		if m.keeper.due.Len() < len(m.keeper.all()) {
			after(m.store.delay)
		}
	}
	if n := len(m.keeper.all()); n != len(m.kept) || m.keeper.due.Len() != n || len(m.keeper.pendingEnds()) != 0 {
		m.fault("%d leases are kept, %d due, %d ends pending; want %d, %d, none", n, m.keeper.due.Len(), len(m.keeper.pendingEnds()), len(m.kept), len(m.kept))
	}
}
