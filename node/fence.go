package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// A process that has stood still for stallLimit may have lost sessions to
	// other nodes: a broker takes one only from a node that does not answer for
	// longer than that. While the store is away nobody can take one, and a node that
	// asked would have to wait: then only a longer stall counts.
	stallLimit     = 500 * time.Millisecond
	stallLimitDown = 3500 * time.Millisecond
	// beatInterval is how often the node notes that it runs.
	beatInterval = 50 * time.Millisecond
)

// fence keeps messages from passing in a node that has stood still, until the
// store has said which sessions are still its own.
type fence struct {
	pulse atomic.Int64 // when the node last ran, in Unix nanoseconds
	limit atomic.Int64 // how long ago that may be, in nanoseconds

	mu     sync.Mutex
	opened sync.Cond
	closed bool // nobody waits any more: the node has ended
}

func newFence() *fence {
	f := &fence{}
	f.opened.L = &f.mu
	f.limit.Store(int64(stallLimit))
	f.pulse.Store(time.Now().UnixNano())
	return f
}

// stalled reports whether the node has stood still and has not asked the store
// since. By the wall clock: it goes on while the machine sleeps.
func (f *fence) stalled() bool {
	since := time.Now().UnixNano() - f.pulse.Load()
	return since > f.limit.Load()
}

// pass returns when messages may pass.
func (f *fence) pass() {
	if !f.stalled() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.stalled() && !f.closed {
		f.opened.Wait()
	}
}

// beat notes that the node runs.
func (f *fence) beat() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pulse.Store(time.Now().UnixNano())
	f.opened.Broadcast()
}

func (f *fence) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.opened.Broadcast()
}

// guard notes that the node runs, again and again until ctx ends. After a
// stall it first asks the store about every session.
func (n *Node) guard(ctx context.Context) {
	t := time.NewTicker(beatInterval)
	defer t.Stop()
	n.fence.beat() // since New nobody could have attached for longer
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if n.ledger.isDown() {
			n.fence.limit.Store(int64(stallLimitDown))
		} else {
			n.fence.limit.Store(int64(stallLimit))
		}
		if n.fence.stalled() {
			n.metrics.stalls.Inc()
			n.log.Warn("this process stood still; no message passes until the store has said which sessions are still here")
			if !n.reclaim(ctx) {
				return
			}
		}
		n.fence.beat()
	}
}

// reclaim has the store say of every session whether it is still this node's,
// and lets go of the others. It reports false when ctx ends before.
func (n *Node) reclaim(ctx context.Context) bool {
	for list := n.all(); len(list) > 0; {
		size := min(renewBatch, len(list))
		left := n.ledger.renew(ctx, list[:size], time.Now())
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
