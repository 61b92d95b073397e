package lease

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/proto"
)

// A lease is renewed soon, but not at once, then every RenewInterval, and soon after a
// change, until it is removed.
func TestRenew(t *testing.T) {
	inBubble(t, func(r *rig) {
		after(65 * time.Second) // the last round was 5 s ago
		o := r.add("ada")
		after(r.keeper.tick / 2)
		if n := r.store.count("Renew"); n != 0 {
			r.Errorf("%d renewals at once: the owner may not have used the lease yet", n)
		}
		after(2 * r.keeper.tick)
		if n := r.store.count("Renew"); n != 1 {
			r.Errorf("%d renewals soon", n)
		}
		after(10 * testInterval)
		if n := r.store.count("Renew"); n < 10 || n > 11 {
			r.Errorf("%d renewals in 10 intervals", n)
		}
		o.set(func(rec *session.Record) { rec.State, rec.Leaving = session.Detached, true })
		after(r.keeper.tick)
		if rec, err := r.recordOf(o); err != nil || rec.State != session.Detached || !rec.Leaving {
			r.Errorf("%+v, %v", rec, err)
		}
		if o.remove(); r.keeper.due.Len() != 0 || len(r.keeper.all()) != 0 {
			r.Error("a lease that was removed is still kept")
		}
		after(2 * testTTL)
		if _, err := r.recordOf(o); !errors.Is(err, session.ErrNotFound) {
			r.Errorf("%v after the ttl of a lease that was removed", err)
		}
	})
}

// Renew returns when the store knows the record.
func TestRenewNow(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.store.delay = 50 * time.Millisecond
		var owners []*testOwner
		var list []*Lease
		for i := range renewBatch + 1 {
			o := r.add(fmt.Sprint("u", i))
			owners, list = append(owners, o), append(list, &o.lease)
		}
		after(testInterval / 2)
		for _, o := range owners {
			o.set(func(rec *session.Record) { rec.Leaving = true })
		}
		r.keeper.Renew(r.Context(), list)
		for _, o := range owners {
			if rec, err := r.recordOf(o); err != nil || !rec.Leaving {
				r.Fatalf("%+v, %v", rec, err)
			}
		}
	})
}

// A change during a renewal is not lost, even if the store makes two renewals in the
// wrong order.
func TestChangeDuringRenewal(t *testing.T) {
	inBubble(t, func(r *rig) {
		o := r.add("ada")
		after(testInterval / 2)
		release := r.store.holdCalls("Renew")
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.keeper.Renew(r.Context(), []*Lease{&o.lease})
		}()
		synctest.Wait()
		o.set(func(rec *session.Record) { rec.Leaving = true })
		release2 := r.store.holdCalls("Renew")
		after(2 * r.keeper.tick) // the second renewal, which has the change
		release2()
		after(0)
		release()
		<-done
		after(2 * r.keeper.tick)
		if rec, err := r.recordOf(o); err != nil || !rec.Leaving {
			r.Errorf("%+v, %v", rec, err)
		}
	})
}

// An owner is notified once, with the reason, that another member has ended or
// reassigned the session.
func TestLost(t *testing.T) {
	inBubble(t, func(r *rig) {
		moved, ended, kept := r.add("moved"), r.add("ended"), r.add("kept")
		after(5 * time.Second)
		if _, err := r.store.End(r.Context(), ended.lease.ID, 0, proto.CloseKicked, "cheating", time.Hour); err != nil {
			r.Fatal(err)
		}
		r.takeOver(moved, true)
		after(time.Second)
		if n := moved.losses(); n != 1 || !errors.Is(moved.lost[0], session.ErrMoved) {
			r.Errorf("%v", moved.lost)
		}
		if n := ended.losses(); n != 1 || !errors.Is(ended.lost[0], session.ErrEnded) {
			r.Errorf("%v", ended.lost)
		} else if rec := ended.lostRecord; rec.Reason != proto.CloseKicked || rec.CloseReason != "cheating" {
			r.Errorf("%+v", rec)
		}
		after(10 * testInterval) // a second notification is a fault
		if kept.losses() != 0 {
			r.Errorf("%v", kept.lost)
		}
	})
}

// slowOwner takes a second to stop passing messages.
type slowOwner struct {
	*testOwner
	stopped atomic.Bool
}

func (o *slowOwner) Lost(err error, r session.Record) {
	o.testOwner.Lost(err, r) // from now on a call is a fault
	o.rig.keeper.Remove(&o.lease)
	o.rig.keeper.Checkpoint(&o.lease)
	time.Sleep(time.Second)
	o.stopped.Store(true)
}

// A call that finds the lease lost waits until the owner has stopped, although another
// call has notified it: whether it begins while the owner stops or has begun before.
func TestLossEndsBeforeVerification(t *testing.T) {
	for _, before := range []bool{false, true} {
		inBubble(t, func(r *rig) {
			o := &slowOwner{testOwner: r.acquire("ada")}
			r.keeper.Add(&o.lease, o)
			after(5 * time.Second)
			r.takeOver(o.testOwner, false)
			release := r.store.holdCalls("Renew")
			go r.keeper.Renew(r.Context(), []*Lease{&o.lease})
			synctest.Wait()
			verify := func() {
				if !r.keeper.verifyLeases(r.Context()) || !o.stopped.Load() {
					r.Error("verified before the owner has stopped")
				}
			}
			done := make(chan struct{})
			if before {
				go func() {
					defer close(done)
					verify()
				}()
				synctest.Wait()
				release()
				<-done
				return
			}
			release()
			synctest.Wait()
			verify()
		})
	}
}

// A store that comes back without its data gets all records again, also if it was
// unreachable for no ping.
func TestStoreLosesRecords(t *testing.T) {
	for _, outage := range []bool{false, true} {
		inBubble(t, func(r *rig) {
			var owners []*testOwner
			for i := range 10 {
				owners = append(owners, r.add(fmt.Sprint("u", i)))
			}
			after(5 * time.Second)
			r.store.down.Store(outage)
			after(5 * time.Second)
			if r.keeper.Down() != outage {
				r.Errorf("down is %v", !outage)
			}
			r.store.Store = memory.New(time.Now)
			r.store.down.Store(false)
			after(2 * time.Second)
			for _, o := range owners {
				if rec, err := r.recordOf(o); err != nil || rec.Node != "node-1" {
					r.Errorf("%+v, %v", rec, err)
				}
			}
			if n := r.wiped.Load(); n != 1 || r.keeper.Down() {
				r.Errorf("found lost records %d times", n)
			}
		})
	}
}

// After an outage all leases are renewed, and the store need not have lost anything.
func TestRenewAfterOutage(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.add("ada")
		after(3500 * time.Millisecond)
		r.store.down.Store(true)
		after(2 * time.Second)
		r.store.down.Store(false)
		r.store.counter("Renew").Store(0)
		after(time.Second)
		if n := r.store.count("Renew"); n != 1 {
			r.Errorf("%d renewals", n)
		}
	})
}

// A round ends with the first batch for which the store has no answer, before the ends.
// What was due is renewed in the next round.
func TestRoundStops(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.store.failCalls("Renew", session.ErrUnavailable)
		for i := range 3 * renewBatch {
			r.add(fmt.Sprint("u", i))
		}
		after(500 * time.Millisecond)
		r.store.counter("Renew").Store(0)
		after(time.Second)
		if n := r.store.count("Renew"); n != 1 {
			r.Errorf("%d batches in a round, and the first had no answer", n)
		}
		r.store.failCalls("Renew", nil)
		r.store.counter("Renew").Store(0)
		after(time.Second)
		if n := r.store.count("Renew"); n != 3 {
			r.Errorf("%d batches, want 3", n)
		}
	})
}

// An empty Keeper asks the store rarely, and nothing in it beats. The first lease ends
// this.
func TestEmptyKeeperRests(t *testing.T) {
	inBubble(t, func(r *rig) {
		calls := func() (n int) {
			for _, m := range []string{"Ping", "Fenced", "Get", "Renew", "EndAll", "Save"} {
				n += r.store.count(m)
			}
			return n
		}
		for range 600 {
			after(time.Second)
			if r.keeper.guard.lastBeat.Load() != resting {
				r.Fatal("the stall guard beats without a lease")
			}
		}
		if n := calls(); n > 2*(600/10+1) {
			r.Errorf("%d calls of the store in 10 minutes", n)
		}
		r.store.down.Store(true)
		after(time.Second)
		o := r.add("ada")
		after(time.Second)
		if !r.keeper.Down() {
			r.Error("the Keeper does not know that the store is down, a second after the first lease")
		}
		beat := r.keeper.guard.lastBeat.Load()
		if after(2 * beatInterval); r.keeper.guard.lastBeat.Load() <= beat {
			r.Error("the stall guard does not beat")
		}
		r.store.down.Store(false)
		o.remove()
		after(time.Second)
		r.store.counter("Ping").Store(0)
		after(10 * time.Minute)
		if n := r.store.count("Ping"); n > 61 || r.keeper.guard.lastBeat.Load() != resting {
			r.Errorf("%d pings after the last lease", n)
		}
	})
}

// Run can run again.
func TestRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		o := r.add("ada")
		for i := range 3 {
			r.store.delay = time.Duration(i) * 250 * time.Millisecond // Run ends during a ping
			stop := r.run()
			after(time.Second)
			stop()
			time.Sleep(time.Second)
			if !r.keeper.Stalled() || r.keeper.Down() {
				t.Errorf("stalled is %v, down is %v while Run does not run", r.keeper.Stalled(), r.keeper.Down())
			}
		}
		if rec, err := r.recordOf(o); err != nil || rec.State != session.Attached {
			t.Errorf("%+v, %v", rec, err)
		}
		o.remove()
		stop := r.run()
		after(time.Second)
		stop()
		if time.Sleep(time.Second); !r.keeper.Stalled() {
			t.Error("messages pass after Run of an empty Keeper")
		}
	})
}

// The time between two rounds has an upper limit.
func TestTick(t *testing.T) {
	for _, c := range []struct{ tick, interval, want time.Duration }{
		{0, 20 * time.Second, time.Second},
		{0, time.Second, 250 * time.Millisecond},
		{100 * time.Millisecond, 20 * time.Second, 100 * time.Millisecond},
		{5 * time.Second, 20 * time.Second, time.Second},
		{-1, 20 * time.Second, time.Second},
	} {
		if got := New(Config{Tick: c.tick, RenewInterval: c.interval}).tick; got != c.want {
			t.Errorf("Tick %v, RenewInterval %v: %v, want %v", c.tick, c.interval, got, c.want)
		}
	}
}

func TestConfirm(t *testing.T) {
	k, l := New(Config{RenewInterval: testInterval}), Lease{ID: "a"}
	if l.Confirmed() {
		t.Error("confirmed")
	}
	if k.Confirm(&l); !l.Confirmed() {
		t.Error("not confirmed")
	}
}

// discardStore answers at once.
type discardStore struct{ *testStore }

func (discardStore) Renew(_ context.Context, records []session.Record, _ []time.Duration) []error {
	return make([]error, len(records))
}

// benchmarkKeeper returns a Keeper with 50,000 leases that are spread over the renew
// interval.
func benchmarkKeeper() *Keeper {
	r := &rig{}
	r.keeper = New(Config{Node: "node-1", Store: discardStore{newTestStore()}, StoreTimeout: testTimeout, RenewInterval: testInterval})
	now := time.Now()
	for i := range 50_000 {
		o := &testOwner{rig: r, lease: Lease{ID: fmt.Sprint("lease ", i), Epoch: 1}}
		r.keeper.Add(&o.lease, o)
		r.keeper.due.Set(&o.lease.due, now.Add(time.Duration(i+1)*testInterval/50_000))
	}
	return r.keeper
}

// BenchmarkRoundNoneDue is the cost of finding that none of 50,000 leases is due.
func BenchmarkRoundNoneDue(b *testing.B) {
	k := benchmarkKeeper()
	ctx, now := context.Background(), time.Now().Add(-time.Minute)
	b.ReportAllocs()
	for b.Loop() {
		k.renewDue(ctx, now)
	}
}

// BenchmarkRound is the cost of a round in which the leases of one second are due, 2,500
// of 50,000.
func BenchmarkRound(b *testing.B) {
	k := benchmarkKeeper()
	ctx, now := context.Background(), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		k.renewDue(ctx, now)
	}
}

// A lease that is added a moment after the last one was removed, before the stall guard
// rests, is renewed like any other.
func TestRenewAfterEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.keeper.tick = beatInterval / 10
		stop := r.run()
		ada := r.add("ada")
		after(beatInterval + beatInterval/4)
		ada.remove()
		after(beatInterval / 4) // a round has seen no lease
		before := r.store.count("Renew")
		r.add("bob")
		after(time.Second)
		if n := r.store.count("Renew") - before; n != 1 {
			t.Errorf("%d renewals of the new lease within a second, want 1", n)
		}
		stop()
		r.keeper.Close()
	})
}
