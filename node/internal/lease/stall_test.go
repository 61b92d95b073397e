package lease

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// stall makes the Keeper believe that the process did not run for d. Like a real stall,
// it does not affect a guard that rests.
func (r *rig) stall(d time.Duration) {
	if r.keeper.guard.lastBeat.Load() == resting {
		return
	}
	r.keeper.guard.lastBeat.Store(time.Now().Add(-d).UnixNano())
}

// passes reports whether a message may pass within the time.
func (r *rig) passes(within time.Duration) bool {
	var passed atomic.Bool
	go func() {
		r.keeper.AwaitRunning()
		passed.Store(true)
	}()
	after(within)
	return passed.Load()
}

// After a stall no message passes until the store has confirmed which leases the node
// still holds. A lost one is lost before.
func TestStall(t *testing.T) {
	inBubble(t, func(r *rig) {
		lost, kept := r.add("lost"), r.add("kept")
		after(5500 * time.Millisecond)
		if r.keeper.Stalled() || !r.passes(0) {
			r.Error("stalled without a stall")
		}
		r.takeOver(lost, false)
		release := r.store.holdCalls("Renew")
		r.stall(stallLimit + time.Millisecond)
		if r.passes(2 * time.Second) {
			r.Error("a message passes before the store has answered")
		}
		release()
		synctest.Wait()
		if r.keeper.Stalled() || lost.losses() != 1 || !errors.Is(lost.lost[0], session.ErrMoved) || kept.losses() != 0 {
			r.Errorf("stalled is %v, lost: %v, kept: %v", r.keeper.Stalled(), lost.lost, kept.lost)
		}
		if n := r.stalls.Load(); n != 1 {
			r.Errorf("%d stalls", n)
		}
	})
}

// A node that cannot ask the store after a stall asks again until it can.
func TestStallDuringOutage(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.add("ada")
		after(5500 * time.Millisecond)
		r.store.down.Store(true)
		r.stall(time.Second)
		if r.passes(10 * time.Second) {
			r.Error("a message passes, and the store has not answered")
		}
		r.store.down.Store(false)
		if after(verifyRetry); r.keeper.Stalled() {
			r.Error("still stalled")
		}
	})
}

// While the store is down, only a longer stall counts.
func TestStallLimits(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.add("ada")
		after(5500 * time.Millisecond)
		r.stall(stallLimit - 2*beatInterval)
		if r.keeper.Stalled() {
			r.Error("stalled at once")
		}
		r.store.down.Store(true)
		after(2 * time.Second)
		r.stall(stallLimitDown - 2*beatInterval)
		if r.keeper.Stalled() {
			r.Error("stalled within the limit of an outage")
		}
		after(time.Second)
		r.stall(stallLimitDown + time.Millisecond)
		if !r.keeper.Stalled() || r.passes(time.Second) {
			r.Error("not stalled")
		}
		r.store.down.Store(false)
		after(time.Second)
		if n := r.stalls.Load(); n != 1 || r.keeper.Stalled() {
			r.Errorf("%d stalls", n)
		}
	})
}

// An empty node is never stalled, however long it has not beaten, and the first lease
// finds it running.
func TestStallOfEmptyNode(t *testing.T) {
	inBubble(t, func(r *rig) {
		after(time.Hour)
		if r.keeper.Stalled() || !r.passes(0) {
			r.Error("an empty node is stalled")
		}
		o := r.acquire("ada")
		done := r.keeper.Acquiring()
		r.keeper.Add(&o.lease, o)
		done()
		if r.keeper.Stalled() {
			r.Error("stalled with the first lease")
		}
		if after(time.Minute); r.stalls.Load() != 0 {
			r.Errorf("%d stalls", r.stalls.Load())
		}
	})
}

// A process that stalls after it has acquired the lease in the store, and before the
// lease was added or anything was passed, verifies the lease before a message passes.
// It does not matter whether the stall was examined before the lease was added.
func TestStallWhileAcquiring(t *testing.T) {
	for _, examined := range []bool{false, true} {
		inBubble(t, func(r *rig) {
			after(time.Hour)
			done := r.keeper.Acquiring()
			o := r.acquire("ada")
			r.takeOver(o, false)
			r.stall(10 * time.Second)
			if examined {
				if after(time.Second); r.stalls.Load() != 1 {
					r.Fatalf("%d stalls", r.stalls.Load())
				}
			}
			r.keeper.Add(&o.lease, o)
			done()
			if !r.keeper.Stalled() {
				r.Error("a message may pass")
			}
			r.keeper.AwaitRunning()
			if o.losses() != 1 {
				r.Error("a message may pass for a lost lease")
			}
		})
	}
}

// A beat that was due when the acquisition ended does not make up for the verification.
func TestBeatAfterAcquiring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		acquire := func() *testOwner {
			done := r.keeper.Acquiring()
			r.keeper.verifyLeases(t.Context())
			defer done()
			return r.add("ada")
		}
		acquire().remove()
		r.keeper.beat(time.Now()) // nothing is left to verify
		if r.keeper.beat(time.Now()); r.keeper.Stalled() || r.keeper.suspect {
			t.Error("stalled without a lease")
		}
		acquire()
		if r.keeper.beat(time.Now()); !r.keeper.Stalled() {
			t.Error("a message may pass")
		}
		r.keeper.verifyLeases(t.Context())
		if r.keeper.beat(time.Now()); r.keeper.Stalled() {
			t.Error("stalled after the verification")
		}
	})
}

// Acquisitions that add no lease let the guard rest again.
func TestAcquiringNothing(t *testing.T) {
	inBubble(t, func(r *rig) {
		after(time.Hour)
		done := r.keeper.Acquiring()
		after(time.Minute)
		if r.keeper.guard.lastBeat.Load() == resting {
			r.Error("the guard rests during an acquisition")
		}
		done()
		if after(time.Second); r.keeper.guard.lastBeat.Load() != resting {
			r.Error("the guard does not rest")
		}
	})
}

// Close releases those who wait, whatever the store says.
func TestStallClose(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.add("ada")
		after(5500 * time.Millisecond)
		release := r.store.holdCalls("Renew")
		r.stall(time.Hour)
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.keeper.AwaitRunning()
		}()
		synctest.Wait()
		select {
		case <-done:
			r.Error("a message passes")
		default:
		}
		r.keeper.Close()
		<-done
		r.keeper.AwaitRunning()
		release()
	})
}
