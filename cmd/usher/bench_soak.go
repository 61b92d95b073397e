package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/cmd/usher/load"
	"github.com/usher-broker/usher/proto"
)

type benchSoakCmd struct {
	loadFlags `embed:""`
	sizeFlag  `embed:""`

	Sessions int           `help:"Sessions at any time." default:"100" placeholder:"N"`
	Rate     float64       `help:"Messages per second of each session." default:"1" placeholder:"N"`
	Cut      time.Duration `help:"Mean time between two cuts of a session's connection." default:"30s" placeholder:"TIME"`
	Stay     time.Duration `help:"Mean time that a session lasts before its user logs out and another comes." default:"5m" placeholder:"TIME"`
	Duration time.Duration `help:"For how long." default:"1m" placeholder:"TIME"`
}

func (c *benchSoakCmd) Run(ctx context.Context, e *env) error {
	if err := c.sizeFlag.check(); err != nil {
		return err
	}
	switch {
	case c.Sessions < 1 || c.Sessions > 100_000:
		return usageError{"--sessions", fmt.Errorf("%d: must be 1 to 100000", c.Sessions)}
	case !(c.Rate > 0 && c.Rate <= 1e4):
		return usageError{"--rate", fmt.Errorf("%v: must be over 0 and at most 10000", c.Rate)}
	case c.Cut <= 0 || c.Stay <= 0 || c.Duration <= 0:
		return usageError{"--duration", fmt.Errorf("%v, --cut %v, --stay %v: must be over 0", c.Duration, c.Cut, c.Stay)}
	}
	return c.run(ctx, e, "soak", c.Sessions, func(ctx context.Context, l *loader) error {
		l.tally("login")
		l.tally("echo")
		if err := l.meet(ctx, "ready"); err != nil {
			return err
		}
		end := time.Now().Add(c.Duration)
		var wg sync.WaitGroup
		for range l.mine(c.Sessions) {
			wg.Go(func() {
				_ = pause(ctx, rand.N(min(c.Duration/4, 5*time.Second))) // not all at once
				for time.Now().Before(end) && ctx.Err() == nil {
					c.live(ctx, l, end)
				}
			})
		}
		wg.Wait()
		l.took("echo", c.Duration)
		return ctx.Err()
	})
}

// life is one session from login to logout.
type life struct {
	*usher.Session
	load.Numbers
	conn atomic.Pointer[net.Conn] // the last that was dialed
}

// live lives one life, which is over by the end at the latest.
func (c *benchSoakCmd) live(ctx context.Context, l *loader, end time.Time) {
	f := &life{Numbers: load.Numbers{Tally: l.tally("echo")}}
	began := time.Now()
	err := c.login(ctx, l, f)
	if err != nil {
		l.tally("login").Failed(soakWhy(err))
		_ = pause(ctx, time.Second)
		return
	}
	l.tally("login").Took(began)
	l.open.Add(1)
	defer l.open.Add(-1)
	var wg sync.WaitGroup
	heard, deaf := context.WithCancel(ctx)
	defer deaf()
	wg.Go(func() {
		for {
			m, err := f.Receive(heard)
			if err != nil {
				return
			}
			f.Heard(m.Data)
		}
	})
	over := time.Now().Add(exponential(c.Stay))
	if over.After(end) {
		over = end
	}
	c.talk(ctx, l, f, over)
	c.part(ctx, l, f)
	deaf()
	wg.Wait()
}

func (c *benchSoakCmd) login(ctx context.Context, l *loader, f *life) error {
	r := l.request()
	session, err := usher.Connect(ctx, usher.Config{
		Auth:        l.Auth,
		Credentials: func(context.Context) (string, any, error) { return r.Method, r.Credentials, nil },
		Placement:   proto.Placement{Pool: l.Pool},
		TLS:         l.dialer.TLS.Clone(),
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := l.dialer.DialAddr(ctx, network, addr)
			if err == nil {
				f.conn.Store(&conn)
			}
			return conn, err
		},
		OnReset: func(usher.Reset) {
			l.fact("resets", 1)
			f.Forget()
		},
	})
	f.Session = session
	return err
}

// talk sends and is cut until the time is over.
func (c *benchSoakCmd) talk(ctx context.Context, l *loader, f *life, over time.Time) {
	b := payload(c.Size)
	every := time.Duration(float64(time.Second) / c.Rate)
	next, cut := time.Now(), time.Now().Add(exponential(c.Cut))
	for next.Before(over) && ctx.Err() == nil {
		wait := time.Until(next)
		if cut.Before(next) {
			wait = time.Until(cut)
		}
		if pause(ctx, wait) != nil {
			return
		}
		if now := time.Now(); !now.Before(cut) {
			if conn := f.conn.Load(); conn != nil {
				(*conn).Close()
				l.fact("cuts", 1)
			}
			cut = now.Add(exponential(c.Cut))
			continue
		}
		if err := f.Send(ctx, f.Next(b, next)); err != nil {
			f.Unsent()
			l.tally("echo").Failed(soakWhy(err))
			return
		}
		next = next.Add(every)
	}
}

// part waits until everything has come back, and logs out.
func (c *benchSoakCmd) part(ctx context.Context, l *loader, f *life) {
	await(ctx, time.Now().Add(l.Timeout), func() bool { return f.Waiting() <= 0 })
	if ctx.Err() == nil {
		l.fact("lost", float64(f.Missing.Load()+f.Waiting()))
	}
	l.fact("doubled", float64(f.Doubled.Load()))
	l.fact("resumes", float64(f.Stats().Resumes))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.Timeout)
	defer cancel()
	if err := f.Logout(ctx); err != nil {
		l.fact("logouts_failed", 1)
	}
}

func exponential(mean time.Duration) time.Duration {
	return time.Duration(rand.ExpFloat64() * float64(mean))
}

// soakWhy is an error of the SDK in a word or two.
func soakWhy(err error) string {
	var ended *usher.EndedError
	if errors.As(err, &ended) {
		return fmt.Sprintf("ended %d", ended.Code)
	}
	return load.Why(err)
}
