package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/cmd/usher-bench/load"
	"github.com/usher-broker/usher/proto"
)

type resumeCmd struct {
	loadFlags   `embed:""`
	attachFlags `embed:""`
	sizeFlag    `embed:""`

	Pending   int           `help:"Messages that each session sends just before the cut, without waiting for the echoes." default:"4" placeholder:"N"`
	Away      time.Duration `help:"How long the sessions are detached." default:"1s" placeholder:"TIME"`
	Over      time.Duration `help:"Time over which they attach again, at an even rate. 0: all at once." default:"0s" placeholder:"TIME"`
	LoginRate float64       `help:"Other logins per second during the resumes." default:"20" placeholder:"N"`
}

func (c *resumeCmd) Run(ctx context.Context, e *process.Env) error {
	if err := cmp.Or(c.attachFlags.check(), c.sizeFlag.check(), checkRate("--login-rate", c.LoginRate)); err != nil {
		return err
	}
	switch {
	case c.Pending < 0 || c.Pending > 512:
		return process.FlagError{Flag: "--pending", Err: fmt.Errorf("%d: must be 0 to 512", c.Pending)}
	case c.Away < 0 || c.Over < 0:
		return process.FlagError{Flag: "--away", Err: fmt.Errorf("%v, --over %v: must be 0 or more", c.Away, c.Over)}
	}
	return c.run(ctx, e, "resume", c.Sessions, c.work)
}

func (c *resumeCmd) work(ctx context.Context, l *loader) error {
	l.echoes = l.tally("echo") // from before the cut until after it
	all, err := l.attach(ctx, c.attachFlags)
	if err != nil {
		return err
	}
	if err := l.barrier(ctx, "attached"); err != nil {
		return err
	}
	c.cut(l, all)
	if err := l.barrier(ctx, "cut"); err != nil {
		return err
	}
	if err := pause(ctx, c.Away); err != nil {
		return err
	}
	loginCtx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	if c.LoginRate > 0 {
		wg.Go(func() { l.otherLogins(loginCtx, c.LoginRate) })
	}
	start := time.Now()
	l.resumeAll(ctx, all, c.Over)
	l.took("resume", time.Since(start))
	l.maxFact("all_resumed_s", time.Since(start).Seconds())
	stop()
	wg.Wait()
	l.settle(ctx, all)
	l.leave(all)
	return ctx.Err()
}

// cut cuts all sessions while messages are in flight.
func (c *resumeCmd) cut(l *loader, all []*loadClient) {
	var wg sync.WaitGroup
	for part := range parts(all, 16) {
		wg.Go(func() {
			b := payload(c.Size)
			for _, m := range part {
				for range c.Pending {
					if m.Send(m.numbers.Next(b, time.Now())) != nil {
						m.numbers.Unsent()
					}
				}
				m.drop(m.Cut)
			}
		})
	}
	wg.Wait()
}

// resumeAll resumes all sessions within the time.
func (l *loader) resumeAll(ctx context.Context, all []*loadClient, over time.Duration) {
	resumes, handshakes := l.tally("resume"), l.tally("handshake")
	plan := load.Plan{N: len(all)}
	if over > 0 {
		plan.Rate = float64(len(all)) / over.Seconds()
	}
	l.late(l.launch(ctx, plan, maxJourneys, func(i int, planned time.Time) {
		if err := l.resume(ctx, all[i], handshakes); err != nil {
			resumes.Failed(load.Reason(err))
			return
		}
		resumes.Took(planned)
		l.serveClient(all[i])
	}))
}

// resume attaches the client again, to its node or to the one that auth assigns. It
// repeats that until it succeeds, at most for the timeout.
func (l *loader) resume(ctx context.Context, m *loadClient, t *load.Tally) error {
	deadline := time.Now().Add(l.Timeout)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		began := time.Now()
		err := m.Attach(ctx)
		switch {
		case err == nil:
			t.Took(began)
			return nil
		case errors.Is(err, load.ErrReset):
			l.fact("resets", 1)
			m.numbers.Forget()
			return nil
		}
		l.fact("attempts_failed", 1)
		if !errors.As(err, new(*load.RefusedError)) { // the node cannot be reached, or refuses the session
			if at, err := l.reconnect(ctx, m); err == nil {
				m.Assign(at)
			}
		}
		if time.Now().Add(wait).After(deadline) {
			return err
		}
		if err := pause(ctx, wait/2+rand.N(wait/2)); err != nil {
			return err
		}
	}
}

func (l *loader) reconnect(ctx context.Context, m *loadClient) (proto.Assignment, error) {
	at := m.Assignment()
	return load.Reconnect(ctx, l.auth, at.Token, at.Node.ID)
}

// otherLogins logs other users in, until ctx ends.
func (l *loader) otherLogins(ctx context.Context, rate float64) {
	t := l.tally("others")
	plan := l.plan(1<<30, rate)
	var wg sync.WaitGroup
	plan.Run(ctx, func(_ int, planned time.Time) {
		wg.Go(func() { l.loginOnce(context.WithoutCancel(ctx), t, planned) })
	})
	wg.Wait()
}
