package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/cmd/usher/load"
	"github.com/usher-broker/usher/proto"
)

// attachFlags are those of a bench that attaches sessions first.
type attachFlags struct {
	Sessions   int     `help:"Sessions to attach." default:"1000" placeholder:"N"`
	AttachRate float64 `help:"Sessions to attach per second. 0: all at once." default:"500" placeholder:"N"`
}

func (f attachFlags) check() error {
	if f.Sessions < 1 || f.Sessions > 2_000_000 {
		return usageError{"--sessions", fmt.Errorf("%d: must be 1 to 2000000", f.Sessions)}
	}
	return checkRate("--attach-rate", f.AttachRate)
}

// checkRate refuses what is no number of things per second.
func checkRate(flag string, rate float64) error {
	if !(rate >= 0 && rate <= 1e6) {
		return usageError{flag, fmt.Errorf("%v: must be 0 to 1000000", rate)}
	}
	return nil
}

// loadClient is one session that makes load.
type loadClient struct {
	*load.Session
	numbers load.Numbers
	heard   atomic.Pointer[func([]byte)] // is called with every message
	first   chan struct{}                // gets a value when a message has come

	mu   sync.Mutex
	over chan struct{} // closed when the reader has ended
	gone error         // why
	cut  bool          // by us
}

// maxBegun bounds the journeys that are under way at the same time.
const maxBegun = 1024

// attach has this process's part of the sessions log in and attach, and returns
// those that did.
func (l *loader) attach(ctx context.Context, f attachFlags) ([]*loadClient, error) {
	return l.journeys(ctx, l.plan(f.Sessions, f.AttachRate), nil)
}

// journeys is attach, after which each session does what after says.
func (l *loader) journeys(ctx context.Context, plan load.Plan, after func(*loadClient, time.Time)) ([]*loadClient, error) {
	logins, attaches := l.tally("login"), l.tally("attach")
	var mu sync.Mutex
	var all []*loadClient
	start := time.Now()
	late := l.launch(ctx, plan, maxBegun, func(_ int, planned time.Time) {
		m, err := l.journey(ctx, logins, attaches, planned)
		if err != nil {
			return
		}
		mu.Lock()
		all = append(all, m)
		mu.Unlock()
		if after != nil {
			after(m, planned)
		}
	})
	if after != nil { // else it is not what is measured
		l.late(late)
	}
	l.took("login", time.Since(start))
	l.took("attach", time.Since(start))
	if ctx.Err() == nil && len(all) == 0 {
		return nil, fmt.Errorf("no session could be attached: %v", whys(logins, attaches))
	}
	return all, ctx.Err()
}

// whys is why things failed, and how often.
func whys(tallies ...*load.Tally) map[string]int64 {
	all := map[string]int64{}
	for _, t := range tallies {
		for why, n := range t.Summary(0).Failed {
			all[why] += n
		}
	}
	return all
}

// journey logs in and attaches.
func (l *loader) journey(ctx context.Context, logins, attaches *load.Tally, planned time.Time) (*loadClient, error) {
	at, err := load.Login(ctx, l.door, l.request())
	if err != nil {
		logins.Failed(load.Why(err))
		return nil, err
	}
	logins.Took(planned)
	m := l.newClient(at)
	began := time.Now()
	if err := m.Attach(ctx); err != nil {
		attaches.Failed(load.Why(err))
		return nil, err
	}
	attaches.Took(began)
	l.serveClient(m)
	return m, nil
}

func (l *loader) newClient(at proto.Assignment) *loadClient {
	m := &loadClient{first: make(chan struct{}, 1)}
	m.numbers.Tally = l.echoes
	m.setHeard(func(b []byte) {
		m.numbers.Heard(b)
		select {
		case m.first <- struct{}{}:
		default:
		}
	})
	m.Session = load.NewSession(l.dialer, at, func(b []byte) { (*m.heard.Load())(b) })
	return m
}

func (m *loadClient) setHeard(f func([]byte)) { m.heard.Store(&f) }

// serveClient reads for the member until its connection ends.
func (l *loader) serveClient(m *loadClient) {
	l.open.Add(1)
	over := make(chan struct{})
	m.mu.Lock()
	m.over, m.gone, m.cut = over, nil, false
	m.mu.Unlock()
	go func() {
		defer close(over)
		err := m.Serve()
		l.open.Add(-1)
		m.mu.Lock()
		m.gone = err
		ours := m.cut
		m.mu.Unlock()
		if !ours {
			l.tally("attach").Failed("later: " + load.Why(err))
		}
	}()
}

// drop cuts the member and waits until its reader has ended.
func (m *loadClient) drop(cut func()) {
	m.mu.Lock()
	m.cut = true
	over := m.over
	m.mu.Unlock()
	cut()
	<-over
}

func (m *loadClient) isGone() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gone != nil
}

// leave has all members close.
func (l *loader) leave(all []*loadClient) {
	var wg sync.WaitGroup
	for part := range parts(all, 32) {
		wg.Go(func() {
			for _, m := range part {
				m.drop(m.Close)
			}
		})
	}
	wg.Wait()
}

// parts yields n parts of a list.
func parts[T any](list []T, n int) func(func([]T) bool) {
	return func(yield func([]T) bool) {
		for i := range n {
			part := list[i*len(list)/n : (i+1)*len(list)/n]
			if len(part) > 0 && !yield(part) {
				return
			}
		}
	}
}

// settle waits until everything sent has come back, at most for the timeout, and
// notes what has not, and what came twice.
func (l *loader) settle(ctx context.Context, all []*loadClient) {
	deadline := time.Now().Add(l.Timeout)
	for _, m := range all {
		await(ctx, deadline, func() bool { return m.numbers.Waiting() <= 0 || m.isGone() })
	}
	var lost, doubled int64
	for _, m := range all {
		lost += m.numbers.Missing.Load()
		doubled += m.numbers.Doubled.Load()
		if waiting := m.numbers.Waiting(); m.isGone() {
			l.fact("unanswered", float64(waiting)) // its client would come back for them
		} else {
			lost += waiting
		}
	}
	l.fact("lost", float64(lost))
	l.fact("doubled", float64(doubled))
}

// await waits until something is so, at most until the deadline.
func await(ctx context.Context, deadline time.Time, so func() bool) {
	for !so() && time.Now().Before(deadline) && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
}

// payload returns a message of the size.
func payload(size int) []byte {
	b := make([]byte, size)
	for i := load.MinMessage; i < size; i++ {
		b[i] = byte(i)
	}
	return b
}

// sizeFlag is the size of messages.
type sizeFlag struct {
	Size int `help:"Bytes of a message." default:"128" placeholder:"N"`
}

func (f sizeFlag) check() error {
	if f.Size < load.MinMessage || f.Size > 1<<20 {
		return usageError{"--size", fmt.Errorf("%d: must be %d to %d", f.Size, load.MinMessage, 1<<20)}
	}
	return nil
}
