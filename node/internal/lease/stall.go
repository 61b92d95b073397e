package lease

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/node/internal/lock"
)

const (
	// A process that did not run for stallLimit may have lost leases to other nodes:
	// a broker takes a session only from a node that does not answer for longer than
	// that. While the store is unavailable no broker can take a session, and a node
	// that asked the store would have to wait. Then only a longer stall counts,
	// stallLimitDown.
	stallLimit     = 500 * time.Millisecond
	stallLimitDown = 3500 * time.Millisecond
	// beatInterval is the time between two beats. A beat records that the process
	// runs.
	beatInterval = 100 * time.Millisecond
	// verifyRetry is the time between two requests to a store that has not answered
	// which leases this node still holds.
	verifyRetry = 250 * time.Millisecond
)

// resting is the time of the last beat of a guard that does not beat: it counts as no
// stall, however long ago the guard stopped.
const resting = math.MaxInt64

// stallGuard keeps a node that did not run for a while from passing messages until the
// store has confirmed which leases it still holds. See the package comment for when it
// rests.
type stallGuard struct {
	lastBeat atomic.Int64  // when the process last ran, in Unix nanoseconds, or resting
	maxStall atomic.Int64  // longest allowed time since lastBeat, in nanoseconds
	wake     chan struct{} // has a value when the guard no longer rests

	mu     lock.Mutex[lock.Leaf]
	cond   sync.Cond
	closed bool // wait returns at once
}

func newStallGuard() *stallGuard {
	g := &stallGuard{wake: make(chan struct{}, 1)}
	g.cond.L = &g.mu
	g.maxStall.Store(int64(stallLimit))
	g.lastBeat.Store(time.Now().UnixNano())
	return g
}

// stalled reports whether the process did not run for too long and the leases have not
// been verified since. It uses the wall clock, which continues while the machine sleeps.
func (g *stallGuard) stalled() bool { return g.stalledAt(time.Now()) }

func (g *stallGuard) stalledAt(now time.Time) bool {
	last := g.lastBeat.Load()
	return last != resting && now.UnixNano()-last > g.maxStall.Load()
}

// setLimit sets how long the process may stall.
func (g *stallGuard) setLimit(down bool) {
	limit := stallLimit
	if down {
		limit = stallLimitDown
	}
	g.maxStall.Store(int64(limit))
}

// wait blocks while the guard is stalled.
func (g *stallGuard) wait() {
	if !g.stalled() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.stalled() && !g.closed {
		g.cond.Wait()
	}
}

// set records the time of a beat, and lets wait look again. Keeper.mu is held, so that
// start and set do not overlap.
func (g *stallGuard) set(lastBeat int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lastBeat.Store(lastBeat)
	g.cond.Broadcast()
}

// start ends the rest of the guard. It returns false if the guard does not rest.
func (g *stallGuard) start() bool {
	if !g.lastBeat.CompareAndSwap(resting, time.Now().UnixNano()) {
		return false
	}
	signal(g.wake)
	return true
}

func (g *stallGuard) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.cond.Broadcast()
}

// Stalled reports whether the process did not run for too long, and the store has not
// confirmed since which leases this node still holds. No message may pass then. It is
// false while there are no leases. When Run has ended, it becomes true after stallLimit.
func (k *Keeper) Stalled() bool { return k.guard.stalled() }

// AwaitRunning blocks while Stalled. Call it before a message passes.
func (k *Keeper) AwaitRunning() { k.guard.wait() }

// Suspect makes Stalled true until the store has confirmed which leases are still held,
// as if the process had not run for too long.
func (k *Keeper) Suspect() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.list)+k.acquiring == 0 {
		return // there is nothing to verify
	}
	k.suspect = true // the next beat does not end it
	k.guard.set(0)
	signal(k.guard.wake)
}

// Close makes all calls of AwaitRunning return, also those that follow.
func (k *Keeper) Close() { k.guard.close() }

// watchStalls beats until ctx ends. After a stall it first verifies the leases. It
// sleeps while there are none.
func (k *Keeper) watchStalls(ctx context.Context) {
	defer k.endRest() // no message passes without Run: from now on the last beat gets old
	t := time.NewTimer(beatInterval)
	defer t.Stop()
	now := time.Now() // no client could attach before Run, so an older stall does not count
	for ok := true; ok; now, ok = k.checkStall(ctx) {
		var next <-chan time.Time
		if k.beat(now) {
			t.Reset(beatInterval)
			next = t.C
		}
		select {
		case <-ctx.Done():
			return
		case <-k.guard.wake:
		case <-next:
		}
	}
}

func (k *Keeper) endRest() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.guard.start()
}

// beat records that the process ran at the given time, and that it has not stalled
// before. It returns false if the guard rests now, because there are no leases.
func (k *Keeper) beat(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case len(k.list)+k.acquiring == 0:
		k.suspect = false
		k.guard.set(resting)
		return false
	case !k.suspect:
		k.guard.set(now.UnixNano())
	}
	return true
}

// checkStall returns the time of the next beat. After a stall it first verifies the
// leases; it returns false if ctx ends before. Without a stall the time is that of the
// check, so that a stall after the check is found by the next one.
func (k *Keeper) checkStall(ctx context.Context) (now time.Time, ok bool) {
	k.guard.setLimit(k.Down())
	now = time.Now()
	if !k.guard.stalledAt(now) {
		return now, true
	}
	k.cfg.Metrics.Stalled()
	k.cfg.Logger.Warn("the process did not run for too long; no message passes until the store confirms which sessions this node still owns")
	ok = k.verifyLeases(ctx)
	return time.Now(), ok
}

// verifyLeases asks the store about every lease, and loses those that this node no
// longer holds. It returns false if ctx ends first.
func (k *Keeper) verifyLeases(ctx context.Context) bool {
	for list := k.allToVerify(); len(list) > 0; {
		size := min(renewBatch, len(list))
		left := k.renew(ctx, list[:size], time.Now())
		list = append(list[size:], left...)
		if len(left) > 0 && !pause(ctx, verifyRetry) {
			return false
		}
	}
	return true
}

// allToVerify returns all leases. Acquiring notices if one is added afterwards that may
// have been acquired before.
func (k *Keeper) allToVerify() []*Lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.verified++
	k.suspect = false
	return slices.Clone(k.list)
}
