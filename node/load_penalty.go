package node

import (
	"context"
	"sync/atomic"
	"time"
)

// A process that does not get to run when it should is overloaded, whatever it
// counts. How late a timer fires tells: from lagFrom on the node asks for fewer
// sessions, and at lagFull for as few as it can ask for on its own account.
const (
	lagInterval = 100 * time.Millisecond
	lagFrom     = 100 * time.Millisecond
	lagFull     = time.Second
	// lagMemory is how many intervals the moving average over lags goes back:
	// one hiccup is none of the brokers' business.
	lagMemory = 20
	// maxLagPenalty is short of 100: a node that is slow is better than none.
	maxLagPenalty = 90
)

// strain is how unwell the node is.
type loadPenalty struct {
	lag     atomic.Int64 // the moving average, in nanoseconds
	percent atomic.Int32
}

// late takes in how late a timer has fired.
func (p *loadPenalty) late(d time.Duration) {
	before := time.Duration(p.lag.Load())
	p.lag.Store(int64(before + (d-before)/lagMemory))
}

// watchLoadPenalty keeps the node's strain up to date until ctx ends.
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
		n.penalty.late(max(time.Since(began)-lagInterval, 0))
		n.penalty.percent.Store(int32(max(n.lagPenalty(), n.ownPenalty())))
	}
}

func (n *Node) lagPenalty() int {
	over := time.Duration(n.penalty.lag.Load()) - lagFrom
	return int(maxLagPenalty * min(max(float64(over)/float64(lagFull-lagFrom), 0), 1))
}

// ownPenalty asks the application.
func (n *Node) ownPenalty() int {
	if n.cfg.LoadPenalty == nil {
		return 0
	}
	return min(max(n.cfg.LoadPenalty(), 0), 100)
}

// LoadPenalty is the percentage by which the node would have fewer new sessions than
// its capacity says: 0 when all is well, 100 when it can take none.
func (n *Node) LoadPenalty() uint8 { return uint8(n.penalty.percent.Load()) }
