package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/cmd/usher-bench/load"
	"github.com/usher-broker/usher/proto"
)

// attachFlags are the flags of commands that attach sessions first.
type attachFlags struct {
	Sessions   int     `help:"Sessions to attach." default:"1000" placeholder:"N"`
	AttachRate float64 `help:"Sessions to attach per second. 0: all at once." default:"500" placeholder:"N"`
}

func (f attachFlags) check() error {
	if f.Sessions < 1 || f.Sessions > 2_000_000 {
		return process.FlagError{Flag: "--sessions", Err: fmt.Errorf("%d: must be 1 to 2000000", f.Sessions)}
	}
	return checkRate("--attach-rate", f.AttachRate)
}

// checkRate checks a number of operations per second.
func checkRate(flag string, rate float64) error {
	if !(rate >= 0 && rate <= 1e6) {
		return process.FlagError{Flag: flag, Err: fmt.Errorf("%v: must be 0 to 1000000", rate)}
	}
	return nil
}

// loadClient is the client of one session.
type loadClient struct {
	*load.Session
	numbers   load.Numbers
	onMessage atomic.Pointer[func([]byte)] // called with every message
	first     chan struct{}                // gets a value when a message has arrived

	mu   sync.Mutex
	done chan struct{} // closed when the reader has ended
	err  error         // the error of the reader; not nil when it has ended
	cut  bool          // drop has closed the connection
}

// maxJourneys bounds the journeys at the same time.
const maxJourneys = 1024

// attach logs in and attaches the sessions of this process, and returns those that
// succeeded.
func (l *loader) attach(ctx context.Context, f attachFlags) ([]*loadClient, error) {
	return l.journeys(ctx, l.plan(f.Sessions, f.AttachRate), nil)
}

// journeys logs in and attaches sessions as planned, and calls after, if not nil, with
// each.
func (l *loader) journeys(ctx context.Context, plan load.Plan, after func(*loadClient, time.Time)) ([]*loadClient, error) {
	logins, attaches := l.tally("login"), l.tally("attach")
	var mu sync.Mutex
	var all []*loadClient
	start := time.Now()
	late := l.launch(ctx, plan, maxJourneys, func(_ int, planned time.Time) {
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
	if after != nil { // otherwise the attaching is not what is measured
		l.late(late)
	}
	l.took("login", time.Since(start))
	l.took("attach", time.Since(start))
	if ctx.Err() == nil && len(all) == 0 {
		return nil, fmt.Errorf("no session could be attached: %v", reasons(logins, attaches))
	}
	return all, ctx.Err()
}

// reasons returns how often operations failed, by reason.
func reasons(tallies ...*load.Tally) map[string]int64 {
	all := map[string]int64{}
	for _, t := range tallies {
		for reason, n := range t.Summary(0).Failed {
			all[reason] += n
		}
	}
	return all
}

// journey logs one session in and attaches it.
func (l *loader) journey(ctx context.Context, logins, attaches *load.Tally, planned time.Time) (*loadClient, error) {
	at, err := load.Login(ctx, l.auth, l.request())
	if err != nil {
		logins.Failed(load.Reason(err))
		return nil, err
	}
	logins.Took(planned)
	m := l.newClient(at)
	began := time.Now()
	if err := m.Attach(ctx); err != nil {
		attaches.Failed(load.Reason(err))
		return nil, err
	}
	attaches.Took(began)
	l.serveClient(m)
	return m, nil
}

func (l *loader) newClient(at proto.Assignment) *loadClient {
	m := &loadClient{first: make(chan struct{}, 1)}
	m.numbers.Tally = l.echoes
	m.setOnMessage(func(b []byte) {
		m.numbers.Received(b)
		select {
		case m.first <- struct{}{}:
		default:
		}
	})
	m.Session = load.NewSession(l.dialer, at, func(b []byte) { (*m.onMessage.Load())(b) })
	return m
}

func (m *loadClient) setOnMessage(f func([]byte)) { m.onMessage.Store(&f) }

// serveClient starts the reader of the client. The reader ends with the connection.
func (l *loader) serveClient(m *loadClient) {
	l.open.Add(1)
	done := make(chan struct{})
	m.mu.Lock()
	m.done, m.err, m.cut = done, nil, false
	m.mu.Unlock()
	go func() {
		defer close(done)
		err := m.Serve()
		l.open.Add(-1)
		m.mu.Lock()
		m.err = err
		cut := m.cut
		m.mu.Unlock()
		if !cut {
			l.tally("attach").Failed("later: " + load.Reason(err))
		}
	}()
}

// drop closes the connection with the function and waits until the reader has ended.
func (m *loadClient) drop(closeConn func()) {
	m.mu.Lock()
	m.cut = true
	done := m.done
	m.mu.Unlock()
	closeConn()
	<-done
}

// lost reports whether the connection has ended.
func (m *loadClient) lost() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err != nil
}

// leave closes the connections of all clients.
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

// parts yields the list in n parts.
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

// settle waits until all echoes have arrived, at most for the timeout, and records lost
// and duplicated messages.
func (l *loader) settle(ctx context.Context, all []*loadClient) {
	deadline := time.Now().Add(l.Timeout)
	for _, m := range all {
		await(ctx, deadline, func() bool { return m.numbers.Waiting() <= 0 || m.lost() })
	}
	var lost, duplicated int64
	for _, m := range all {
		lost += m.numbers.Missing.Load()
		duplicated += m.numbers.Duplicated.Load()
		if waiting := m.numbers.Waiting(); m.lost() {
			l.fact("unanswered", float64(waiting)) // a real client would resume and get them
		} else {
			lost += waiting
		}
	}
	l.fact("lost", float64(lost))
	l.fact("duplicated", float64(duplicated))
}

// await waits until done returns true, at most until the deadline.
func await(ctx context.Context, deadline time.Time, done func() bool) {
	for !done() && time.Now().Before(deadline) && ctx.Err() == nil {
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
		return process.FlagError{Flag: "--size", Err: fmt.Errorf("%d: must be %d to %d", f.Size, load.MinMessage, 1<<20)}
	}
	return nil
}
