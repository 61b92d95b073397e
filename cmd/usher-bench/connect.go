package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/cmd/usher-bench/load"
)

type connectCmd struct {
	loadFlags `embed:""`
	sizeFlag  `embed:""`

	Sessions int           `help:"Number of journeys: a login, an attach, a message and its echo." default:"1000" placeholder:"N"`
	Rate     float64       `help:"Journeys that begin per second. 0: all at once." default:"200" placeholder:"N"`
	Hold     time.Duration `help:"How long the sessions stay attached after that." default:"0s" placeholder:"TIME"`
}

func (c *connectCmd) Run(ctx context.Context, e *process.Env) error {
	if err := cmp.Or(c.sizeFlag.check(), (attachFlags{c.Sessions, 0}).check(), checkRate("--rate", c.Rate)); err != nil {
		return err
	}
	return c.run(ctx, e, "connect", c.Sessions, c.work)
}

func (c *connectCmd) work(ctx context.Context, l *loader) error {
	journeys := l.tally("journey")
	l.echoes = l.tally("answer") // the echo of the first message
	if err := l.barrier(ctx, "ready"); err != nil {
		return err
	}
	start := time.Now()
	all, err := l.journeys(ctx, l.plan(c.Sessions, c.Rate), func(m *loadClient, planned time.Time) {
		if err := m.firstMessage(ctx, payload(c.Size), l.Timeout); err != nil {
			journeys.Failed(load.Reason(err))
			return
		}
		journeys.Took(planned)
	})
	l.took("journey", time.Since(start))
	if err != nil {
		return err
	}
	if err := l.barrier(ctx, "attached"); err != nil {
		return err
	}
	err = pause(ctx, c.Hold)
	l.leave(all)
	return err
}

// firstMessage sends a message and waits for its echo.
func (m *loadClient) firstMessage(ctx context.Context, b []byte, timeout time.Duration) error {
	if err := m.Send(m.numbers.Next(b, time.Now())); err != nil {
		return err
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-m.first:
		return nil
	case <-m.done:
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.err
	case <-timer.C:
		return fmt.Errorf("no answer within %v: does the cluster run --app=echo?", timeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}
