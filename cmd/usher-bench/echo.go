package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/cmd/usher-bench/load"
)

type echoCmd struct {
	loadFlags   `embed:""`
	attachFlags `embed:""`
	sizeFlag    `embed:""`

	Rate     float64       `help:"Messages per second of all sessions together. The sessions send in turn." default:"1000" placeholder:"N"`
	Duration time.Duration `help:"For how long." default:"10s" placeholder:"TIME"`
}

func (c *echoCmd) Run(ctx context.Context, e *process.Env) error {
	if err := checkSending(c.attachFlags, c.sizeFlag, c.Rate, c.Duration); err != nil {
		return err
	}
	return c.run(ctx, e, "echo", c.Sessions, c.work)
}

// checkSending checks the flags of commands whose sessions send messages.
func checkSending(a attachFlags, size sizeFlag, rate float64, d time.Duration) error {
	if err := cmp.Or(a.check(), size.check()); err != nil {
		return err
	}
	switch {
	case !(rate > 0 && rate <= 1e7):
		return process.FlagError{Flag: "--rate", Err: fmt.Errorf("%v: must be over 0 and at most 10000000", rate)}
	case d <= 0:
		return process.FlagError{Flag: "--duration", Err: fmt.Errorf("%v: must be over 0", d)}
	}
	return nil
}

func (c *echoCmd) work(ctx context.Context, l *loader) error {
	l.echoes = l.tally("echo")
	all, err := l.attach(ctx, c.attachFlags)
	if err != nil {
		return err
	}
	if err := l.barrier(ctx, "attached"); err != nil {
		return err
	}
	start := time.Now()
	l.send(ctx, all, l.echoes, l.planFor(c.Rate, c.Duration), c.Size)
	l.took("echo", time.Since(start))
	l.settle(ctx, all)
	l.leave(all)
	return ctx.Err()
}

// send sends messages from the sessions in turn, as planned.
func (l *loader) send(ctx context.Context, all []*loadClient, t *load.Tally, plan load.Plan, size int) {
	b := payload(size)
	l.late(plan.Run(ctx, func(i int, planned time.Time) {
		m := all[i%len(all)]
		if m.lost() {
			t.Failed("connection lost")
			return
		}
		if err := m.Send(m.numbers.Next(b, planned)); err != nil {
			m.numbers.Unsent()
			t.Failed(load.Reason(err))
		}
	}))
}
