package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// A process that did not run for stallLimit may have lost sessions to other
	// nodes: a broker takes a session only from a node that does not answer for
	// longer than that. While the store is unavailable no broker can take a session,
	// and a node that asked the store would have to wait. Then only a longer stall
	// counts, stallLimitDown.
	stallLimit     = 500 * time.Millisecond
	stallLimitDown = 3500 * time.Millisecond
	// beatInterval is the time between two beats. A beat records that the node runs.
	beatInterval = 50 * time.Millisecond
)

// stallGuard keeps a node that did not run for a while from passing messages until
// the store has confirmed which sessions it still owns.
type stallGuard struct {
	lastBeat atomic.Int64 // when the node last ran, in Unix nanoseconds
	maxStall atomic.Int64 // longest allowed time since lastBeat, in nanoseconds

	mu     sync.Mutex
	cond   sync.Cond
	closed bool // the node has ended: wait returns at once
}

func newStallGuard() *stallGuard {
	g := &stallGuard{}
	g.cond.L = &g.mu
	g.maxStall.Store(int64(stallLimit))
	g.lastBeat.Store(time.Now().UnixNano())
	return g
}

// stalled reports whether the node did not run for too long and has not asked the
// store since. It uses the wall clock, which continues while the machine sleeps.
func (g *stallGuard) stalled() bool {
	since := time.Now().UnixNano() - g.lastBeat.Load()
	return since > g.maxStall.Load()
}

// wait blocks while the node is stalled. Call it before a message passes.
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

// beat records that the node runs.
func (g *stallGuard) beat() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lastBeat.Store(time.Now().UnixNano())
	g.cond.Broadcast()
}

func (g *stallGuard) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.cond.Broadcast()
}

// watchStalls beats until ctx ends. After a stall it first asks the store about every
// session.
func (n *Node) watchStalls(ctx context.Context) {
	t := time.NewTicker(beatInterval)
	defer t.Stop()
	n.stallGuard.beat() // no client could attach before Run, so an older stall does not count
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if n.renewer.isDown() {
			n.stallGuard.maxStall.Store(int64(stallLimitDown))
		} else {
			n.stallGuard.maxStall.Store(int64(stallLimit))
		}
		if n.stallGuard.stalled() {
			n.metrics.stalls.Inc()
			n.log.Warn("the process did not run for too long; no message passes until the store confirms which sessions this node still owns")
			if !n.verifyLeases(ctx) {
				return
			}
		}
		n.stallGuard.beat()
	}
}

// verifyLeases asks the store about every session, and ends those that this node no
// longer owns. It returns false if ctx ends first.
func (n *Node) verifyLeases(ctx context.Context) bool {
	for list := n.all(); len(list) > 0; {
		size := min(renewBatch, len(list))
		left := n.renewer.renew(ctx, list[:size], time.Now())
		list = append(list[size:], left...)
		if len(left) == 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(moveRetry):
		}
	}
	return true
}
