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

	"github.com/usher-broker/usher/broker/process"
	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/cmd/usher-bench/load"
	"github.com/usher-broker/usher/proto"
)

type soakCmd struct {
	loadFlags `embed:""`
	sizeFlag  `embed:""`

	Sessions int           `help:"Sessions at the same time." default:"100" placeholder:"N"`
	Rate     float64       `help:"Messages per second of each session." default:"1" placeholder:"N"`
	Cut      time.Duration `help:"Mean time between two cuts of a session's connection." default:"30s" placeholder:"TIME"`
	Stay     time.Duration `help:"Mean time from a login to the logout. Then another user logs in." default:"5m" placeholder:"TIME"`
	Duration time.Duration `help:"For how long." default:"1m" placeholder:"TIME"`
}

func (c *soakCmd) Run(ctx context.Context, e *process.Env) error {
	if err := c.sizeFlag.check(); err != nil {
		return err
	}
	switch {
	case c.Sessions < 1 || c.Sessions > 100_000:
		return process.FlagError{Flag: "--sessions", Err: fmt.Errorf("%d: must be 1 to 100000", c.Sessions)}
	case !(c.Rate > 0 && c.Rate <= 1e4):
		return process.FlagError{Flag: "--rate", Err: fmt.Errorf("%v: must be over 0 and at most 10000", c.Rate)}
	case c.Cut <= 0 || c.Stay <= 0 || c.Duration <= 0:
		return process.FlagError{Flag: "--duration", Err: fmt.Errorf("%v, --cut %v, --stay %v: must be over 0", c.Duration, c.Cut, c.Stay)}
	}
	return c.run(ctx, e, "soak", c.Sessions, func(ctx context.Context, l *loader) error {
		l.tally("login")
		l.tally("echo")
		if err := l.barrier(ctx, "ready"); err != nil {
			return err
		}
		end := time.Now().Add(c.Duration)
		var wg sync.WaitGroup
		for range l.mine(c.Sessions) {
			wg.Go(func() {
				_ = pause(ctx, rand.N(min(c.Duration/4, 5*time.Second))) // not all at once
				for time.Now().Before(end) && ctx.Err() == nil {
					c.runLife(ctx, l, end)
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
	conn atomic.Pointer[net.Conn] // the latest one
}

// runLife runs one session, which ends at the given time at the latest.
func (c *soakCmd) runLife(ctx context.Context, l *loader, end time.Time) {
	f := &life{Numbers: load.Numbers{Tally: l.tally("echo")}}
	began := time.Now()
	err := c.login(ctx, l, f)
	if err != nil {
		l.tally("login").Failed(soakReason(err))
		_ = pause(ctx, time.Second)
		return
	}
	l.tally("login").Took(began)
	l.open.Add(1)
	defer l.open.Add(-1)
	var wg sync.WaitGroup
	receiveCtx, stop := context.WithCancel(ctx)
	defer stop()
	wg.Go(func() {
		for {
			m, err := f.Receive(receiveCtx)
			if err != nil {
				return
			}
			f.Received(m.Data)
		}
	})
	until := time.Now().Add(exponential(c.Stay))
	if until.After(end) {
		until = end
	}
	c.send(ctx, l, f, until)
	c.logout(ctx, l, f)
	stop()
	wg.Wait()
}

func (c *soakCmd) login(ctx context.Context, l *loader, f *life) error {
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

// send sends messages and cuts the connection, until the given time.
func (c *soakCmd) send(ctx context.Context, l *loader, f *life, until time.Time) {
	b := payload(c.Size)
	every := time.Duration(float64(time.Second) / c.Rate)
	next, cut := time.Now(), time.Now().Add(exponential(c.Cut))
	for next.Before(until) && ctx.Err() == nil {
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
			l.tally("echo").Failed(soakReason(err))
			return
		}
		next = next.Add(every)
	}
}

// logout waits until all echoes have arrived, records lost and duplicated messages, and
// logs out.
func (c *soakCmd) logout(ctx context.Context, l *loader, f *life) {
	await(ctx, time.Now().Add(l.Timeout), func() bool { return f.Waiting() <= 0 })
	if ctx.Err() == nil {
		l.fact("lost", float64(f.Missing.Load()+f.Waiting()))
	}
	l.fact("duplicated", float64(f.Duplicated.Load()))
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

// soakReason returns a short name for an error of the SDK, under which it is counted.
func soakReason(err error) string {
	var ended *usher.EndedError
	if errors.As(err, &ended) {
		return fmt.Sprintf("ended %d", ended.Code)
	}
	return load.Reason(err)
}
