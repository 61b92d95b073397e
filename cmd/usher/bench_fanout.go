package main

import (
	"context"
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/cmd/usher/load"
)

type benchFanoutCmd struct {
	loadFlags   `embed:""`
	attachFlags `embed:""`
	sizeFlag    `embed:""`

	Rate     float64       `help:"Messages per second that one session of each node sends." default:"10" placeholder:"N"`
	Duration time.Duration `help:"For how long." default:"10s" placeholder:"TIME"`
}

func (c *benchFanoutCmd) Run(ctx context.Context, e *env) error {
	if err := checkTalk(c.attachFlags, c.sizeFlag, c.Rate, c.Duration); err != nil {
		return err
	}
	return c.run(ctx, e, "fanout", c.Sessions, c.work)
}

// crowd is the sessions of one node.
type crowd struct {
	members []*loadClient // the first is the one that sends
	sent    int64
	heard   atomic.Int64
}

func (c *benchFanoutCmd) work(ctx context.Context, l *loader) error {
	deliveries := l.tally("delivery")
	l.echoes = load.NewTally() // not printed: of what comes before all have met
	all, err := l.attach(ctx, c.attachFlags)
	if err != nil {
		return err
	}
	nodes := map[string]*crowd{}
	var crowds []*crowd
	for _, m := range all {
		at := m.Assignment().Node.ID
		g := nodes[at]
		if g == nil {
			g = &crowd{}
			nodes[at] = g
			crowds = append(crowds, g)
		}
		g.members = append(g.members, m)
	}
	for _, g := range crowds {
		g.meet(ctx, payload(c.Size), time.Now().Add(l.Timeout))
		for _, m := range g.members {
			m.listen(g, deliveries, uint64(l.index))
		}
	}
	if err := l.meet(ctx, "attached"); err != nil {
		return err
	}
	start := time.Now()
	n := int(math.Ceil(c.Rate * c.Duration.Seconds()))
	b := payload(c.Size)
	l.late(load.Plan{N: n * len(crowds), Rate: c.Rate * float64(len(crowds)), Ramp: l.Ramp}.Run(ctx, func(i int, planned time.Time) {
		g := crowds[i%len(crowds)]
		load.Stamp(b, planned)
		binary.LittleEndian.PutUint64(b[8:], uint64(l.index))
		if err := g.members[0].Send(b); err != nil {
			deliveries.Failed(load.Why(err))
			return
		}
		g.sent++
	}))
	l.took("delivery", time.Since(start))
	l.awaitCrowds(ctx, crowds)
	if err := l.meet(ctx, "heard"); err != nil {
		return err
	}
	l.leave(all)
	return ctx.Err()
}

// meet has the first speak until all have heard it: a session that has its welcome
// may not be with the application yet, and would miss what is sent to all.
func (g *crowd) meet(ctx context.Context, b []byte, deadline time.Time) {
	binary.LittleEndian.PutUint64(b[8:], math.MaxUint64) // no process counts it
	var deaf atomic.Int64
	deaf.Store(int64(len(g.members)))
	for _, m := range g.members {
		var once sync.Once
		m.setHeard(func([]byte) { once.Do(func() { deaf.Add(-1) }) })
	}
	for deaf.Load() > 0 && time.Now().Before(deadline) && ctx.Err() == nil {
		_ = g.members[0].Send(b) // one that cannot send shows when it counts
		await(ctx, time.Now().Add(200*time.Millisecond), func() bool { return deaf.Load() == 0 })
	}
}

// listen has the member count what it hears of this process's senders.
func (m *loadClient) listen(g *crowd, t *load.Tally, index uint64) {
	m.setHeard(func(b []byte) {
		if len(b) < load.MinMessage || binary.LittleEndian.Uint64(b[8:]) != index {
			return // another process counts its own
		}
		g.heard.Add(1)
		t.Lasted(load.Age(b))
	})
}

// awaitCrowds waits for what is under way, and notes what has not come.
func (l *loader) awaitCrowds(ctx context.Context, crowds []*crowd) {
	deadline := time.Now().Add(l.Timeout)
	var missing int64
	for _, g := range crowds {
		want := g.sent * int64(len(g.members))
		await(ctx, deadline, func() bool { return g.heard.Load() >= want })
		missing += want - g.heard.Load()
	}
	l.fact("lost", float64(max(missing, 0)))
}
