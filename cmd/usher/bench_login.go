package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/cmd/usher/load"
)

type benchLoginCmd struct {
	loadFlags `embed:""`

	Rate     float64       `help:"Logins per second. 0: as many as it takes, by --workers that each wait for their answer; latencies then do not tell how long users would wait." default:"100" placeholder:"N"`
	Duration time.Duration `help:"For how long." default:"10s" placeholder:"TIME"`
	Workers  int           `help:"With --rate=0: logins under way at the same time." default:"32" placeholder:"N"`
}

func (c *benchLoginCmd) Run(ctx context.Context, e *env) error {
	if err := checkRate("--rate", c.Rate); err != nil {
		return err
	}
	switch {
	case c.Duration <= 0:
		return usageError{"--duration", fmt.Errorf("%v: must be over 0", c.Duration)}
	case c.Workers < 1 || c.Workers > 10_000:
		return usageError{"--workers", fmt.Errorf("%d: must be 1 to 10000", c.Workers)}
	}
	return c.run(ctx, e, "login", 0, func(ctx context.Context, l *loader) error {
		if err := l.meet(ctx, "ready"); err != nil {
			return err
		}
		start := time.Now()
		if c.Rate == 0 {
			l.loginAll(ctx, c.Workers, c.Duration)
		} else {
			l.logins(ctx, l.planFor(c.Rate, c.Duration))
		}
		l.took("login", time.Since(start))
		return ctx.Err()
	})
}

// logins logs in as planned.
func (l *loader) logins(ctx context.Context, plan load.Plan) {
	t := l.tally("login")
	l.late(l.launch(ctx, plan, 4*maxBegun, func(_ int, planned time.Time) { l.loginOnce(ctx, t, planned) }))
}

func (l *loader) loginOnce(ctx context.Context, t *load.Tally, planned time.Time) {
	if _, err := load.Login(ctx, l.door, l.request()); err != nil {
		t.Failed(load.Why(err))
		return
	}
	t.Took(planned)
}

// loginAll logs in as fast as the answers come.
func (l *loader) loginAll(ctx context.Context, workers int, d time.Duration) {
	t := l.tally("login")
	var stop atomic.Bool
	timer := time.AfterFunc(d, func() { stop.Store(true) })
	defer timer.Stop()
	var wg sync.WaitGroup
	for range max(l.mine(workers), 1) {
		wg.Go(func() {
			for !stop.Load() && ctx.Err() == nil {
				l.loginOnce(ctx, t, time.Now())
			}
		})
	}
	wg.Wait()
}
