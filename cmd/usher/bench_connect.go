package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/usher-broker/usher/cmd/usher/load"
)

type benchConnectCmd struct {
	loadFlags `embed:""`
	sizeFlag  `embed:""`

	Sessions int           `help:"Journeys to make." default:"1000" placeholder:"N"`
	Rate     float64       `help:"Journeys that begin per second. 0: all at once." default:"200" placeholder:"N"`
	Hold     time.Duration `help:"How long the sessions then stay." default:"0s" placeholder:"TIME"`
}

func (c *benchConnectCmd) Run(ctx context.Context, e *env) error {
	if err := cmp.Or(c.sizeFlag.check(), (attachFlags{c.Sessions, 0}).check(), checkRate("--rate", c.Rate)); err != nil {
		return err
	}
	return c.run(ctx, e, "connect", c.Sessions, c.work)
}

func (c *benchConnectCmd) work(ctx context.Context, l *loader) error {
	whole := l.tally("journey")
	l.echoes = l.tally("answer") // to the first message
	if err := l.meet(ctx, "ready"); err != nil {
		return err
	}
	start := time.Now()
	all, err := l.journeys(ctx, l.plan(c.Sessions, c.Rate), func(m *loadClient, planned time.Time) {
		if err := m.firstMessage(ctx, payload(c.Size), l.Timeout); err != nil {
			whole.Failed(load.Why(err))
			return
		}
		whole.Took(planned)
	})
	l.took("journey", time.Since(start))
	if err != nil {
		return err
	}
	if err := l.meet(ctx, "attached"); err != nil {
		return err
	}
	err = pause(ctx, c.Hold)
	l.leave(all)
	return err
}

// firstMessage sends a message and waits for it to come back.
func (m *loadClient) firstMessage(ctx context.Context, b []byte, timeout time.Duration) error {
	if err := m.Send(m.numbers.Next(b, time.Now())); err != nil {
		return err
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-m.first:
		return nil
	case <-m.over:
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.gone
	case <-timer.C:
		return fmt.Errorf("no answer within %v: does the cluster run --app=echo?", timeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}
