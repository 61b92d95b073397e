package node

import (
	"context"
	"sync/atomic"
	"time"
)

// A process that does not run when it should is overloaded, however few sessions it
// has. The node measures how late a timer fires. From lagFrom on it asks for fewer
// sessions. At lagFull it reaches maxLagPenalty.
const (
	lagInterval = 100 * time.Millisecond
	lagFrom     = 100 * time.Millisecond
	lagFull     = time.Second
	// lagMemory is how many intervals the moving average of the lag covers: a single
	// late timer does not change the placement of sessions.
	lagMemory = 20
	// maxLagPenalty is below 100, because a slow node is better than none.
	maxLagPenalty = 90
)

// loadPenalty holds the measured lag and the load penalty.
type loadPenalty struct {
	lag     atomic.Int64 // moving average, in nanoseconds
	percent atomic.Int32
}

// addLag adds how late a timer fired to the moving average.
func (p *loadPenalty) addLag(d time.Duration) {
	before := time.Duration(p.lag.Load())
	p.lag.Store(int64(before + (d-before)/lagMemory))
}

// watchLoadPenalty updates the load penalty of the node until ctx ends.
func (n *Node) watchLoadPenalty(ctx context.Context) {
	timer := time.NewTimer(lagInterval)
	defer timer.Stop()
	for {
		began := time.Now()
		timer.Reset(lagInterval)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		n.penalty.addLag(max(time.Since(began)-lagInterval, 0))
		n.penalty.percent.Store(int32(max(n.lagPenalty(), n.ownPenalty())))
	}
}

func (n *Node) lagPenalty() int {
	over := time.Duration(n.penalty.lag.Load()) - lagFrom
	return int(maxLagPenalty * min(max(float64(over)/float64(lagFull-lagFrom), 0), 1))
}

// ownPenalty returns the load penalty that the application sets, or 0.
func (n *Node) ownPenalty() int {
	if n.cfg.LoadPenalty == nil {
		return 0
	}
	return min(max(n.cfg.LoadPenalty(), 0), 100)
}

// LoadPenalty returns the percentage by which the node asks for fewer new sessions
// than its capacity allows: 0 if all is well, 100 if it can take none.
func (n *Node) LoadPenalty() uint8 { return uint8(n.penalty.percent.Load()) }
