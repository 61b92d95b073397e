package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/usher-broker/usher/cmd/usher/load"
)

type benchEchoCmd struct {
	loadFlags   `embed:""`
	attachFlags `embed:""`
	sizeFlag    `embed:""`

	Rate     float64       `help:"Messages per second, of all sessions together, in turn." default:"1000" placeholder:"N"`
	Duration time.Duration `help:"For how long." default:"10s" placeholder:"TIME"`
}

func (c *benchEchoCmd) Run(ctx context.Context, e *env) error {
	if err := checkTalk(c.attachFlags, c.sizeFlag, c.Rate, c.Duration); err != nil {
		return err
	}
	return c.run(ctx, e, "echo", c.Sessions, c.work)
}

// checkTalk refuses what cannot be of sessions that send messages.
func checkTalk(a attachFlags, size sizeFlag, rate float64, d time.Duration) error {
	if err := cmp.Or(a.check(), size.check()); err != nil {
		return err
	}
	switch {
	case !(rate > 0 && rate <= 1e7):
		return usageError{"--rate", fmt.Errorf("%v: must be over 0 and at most 10000000", rate)}
	case d <= 0:
		return usageError{"--duration", fmt.Errorf("%v: must be over 0", d)}
	}
	return nil
}

func (c *benchEchoCmd) work(ctx context.Context, l *loader) error {
	l.echoes = l.tally("echo")
	all, err := l.attach(ctx, c.attachFlags)
	if err != nil {
		return err
	}
	if err := l.meet(ctx, "attached"); err != nil {
		return err
	}
	start := time.Now()
	l.send(ctx, all, l.echoes, l.planFor(c.Rate, c.Duration), c.Size)
	l.took("echo", time.Since(start))
	l.settle(ctx, all)
	l.leave(all)
	return ctx.Err()
}

// send has the sessions send in turn, as planned.
func (l *loader) send(ctx context.Context, all []*loadClient, t *load.Tally, plan load.Plan, size int) {
	b := payload(size)
	l.late(plan.Run(ctx, func(i int, planned time.Time) {
		m := all[i%len(all)]
		if m.isGone() {
			t.Failed("connection lost")
			return
		}
		if err := m.Send(m.numbers.Next(b, planned)); err != nil {
			m.numbers.Unsent()
			t.Failed(load.Why(err))
		}
	}))
}
