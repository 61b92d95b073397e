package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/cmd/usher-bench/load"
)

type loginCmd struct {
	loadFlags `embed:""`

	Rate     float64       `help:"Logins per second. 0: as many as possible, with --workers that each wait for the answer. The latencies are then not those of users, who do not wait for each other." default:"100" placeholder:"N"`
	Duration time.Duration `help:"For how long." default:"10s" placeholder:"TIME"`
	Workers  int           `help:"Logins at the same time, with --rate=0." default:"32" placeholder:"N"`
}

func (c *loginCmd) Run(ctx context.Context, e *process.Env) error {
	if err := checkRate("--rate", c.Rate); err != nil {
		return err
	}
	switch {
	case c.Duration <= 0:
		return process.FlagError{Flag: "--duration", Err: fmt.Errorf("%v: must be over 0", c.Duration)}
	case c.Workers < 1 || c.Workers > 10_000:
		return process.FlagError{Flag: "--workers", Err: fmt.Errorf("%d: must be 1 to 10000", c.Workers)}
	}
	return c.run(ctx, e, "login", 0, func(ctx context.Context, l *loader) error {
		if err := l.barrier(ctx, "ready"); err != nil {
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
	l.late(l.launch(ctx, plan, 4*maxJourneys, func(_ int, planned time.Time) { l.loginOnce(ctx, t, planned) }))
}

func (l *loader) loginOnce(ctx context.Context, t *load.Tally, planned time.Time) {
	if _, err := load.Login(ctx, l.auth, l.request()); err != nil {
		t.Failed(load.Reason(err))
		return
	}
	t.Took(planned)
}

// loginAll logs in with workers that each wait for the answer.
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
