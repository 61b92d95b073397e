package broker

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// tick is how often a broker at work updates the table of the nodes with the time.
	tick = 100 * time.Millisecond
	// restTick is how often a broker at rest does so, unless a probe is due earlier. A
	// broker is at rest after workTicks without work: a login or another pick of a node, a
	// node that joins or changes, a failed probe, a report of a client, a node that missed
	// a command. An address that always fails its probes keeps it at work.
	restTick  = time.Second
	workTicks = 20
	// shedInterval is the time between two rounds of OpShed commands.
	shedInterval = time.Second
)

// pace decides how often a broker ticks. An auth without logins costs next to nothing.
type pace struct {
	stirred atomic.Bool   // there was work since the last tick
	wake    chan struct{} // ends a rest; buffered
	quiet   int           // ticks without work; only Run uses it
}

// stir reports work. It does not block.
func (p *pace) stir() {
	if p.stirred.Swap(true) {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// next returns the time until the next tick, and the channel that ends it, which is nil
// if nothing does. due is when the next probe is due.
func (p *pace) next(due time.Duration) (time.Duration, <-chan struct{}) {
	p.quiet++
	if p.stirred.Swap(false) {
		p.quiet = 0
	}
	if p.quiet < workTicks {
		return tick, nil
	}
	return min(restTick, max(due, tick)), p.wake
}

// Run updates the table of the nodes with the time, probes the nodes and, with
// Config.Rebalance, balances them, until ctx ends. It returns the cause of that.
func (b *Broker) Run(ctx context.Context) error {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	var wake <-chan struct{}
	var shed time.Time
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		case <-wake:
		}
		b.mu.Lock()
		b.tickTable(b.cfg.Now())
		b.mu.Unlock()
		b.fenceMissed()
		due := b.probeDue()
		if now := time.Now(); b.cfg.Rebalance && now.Sub(shed) >= shedInterval-tick/2 {
			shed = now
			b.rebalance()
		}
		var wait time.Duration
		wait, wake = b.pace.next(due)
		timer.Reset(wait)
	}
}

// tickTable updates the table of the nodes with the time. The caller holds b.mu.
func (b *Broker) tickTable(now time.Time) {
	b.ticked = now
	b.picker.Tick(now)
}
