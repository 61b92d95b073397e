package upgrade

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// talker is a client that sends 1, 2, 3 … to an application that echoes, and checks
// that the echoes arrive in this order, each once.
type talker struct {
	session *usher.Session
	id      string // of the session, as of the login
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu       sync.Mutex
	sent     int
	echoed   int // the last echo
	failures []error
	moves    int // attaches to another node than before
	node     string
	resets   int
	at       [maxInFlight]time.Time // send times of the last messages, by number
	pause    time.Duration          // longest time from a message to its echo, in the current step
}

// maxInFlight bounds the messages of a talker that have not been echoed.
const maxInFlight = 256

// connectTimeout bounds a login, with its retries.
const connectTimeout = 20 * time.Second

// connect logs in until that succeeds, as a game does: if no auth answers, or one
// asks to try again later. It returns the number of tries.
func connect(ctx context.Context, cfg usher.Config) (s *usher.Session, tries int, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for tries = 1; ; tries++ {
		s, err = usher.Connect(ctx, cfg)
		var p *proto.Problem
		if err == nil || ctx.Err() != nil || errors.As(err, &p) && p.Status != 503 {
			return s, tries, err
		}
		select {
		case <-ctx.Done():
			return nil, tries, err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// startTalker logs in and sends a message every interval until close.
func startTalker(auth, name string, every time.Duration) (*talker, error) {
	c := &talker{}
	s, _, err := connect(context.Background(), usher.Config{
		Auth: auth, Credentials: usher.Guest(name), OnState: c.onState, OnReset: c.onReset,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c.session, c.id = s, s.SessionID()
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.wg.Go(func() { c.send(ctx, every) })
	c.wg.Go(func() { c.receive(ctx) })
	return c, nil
}

func (c *talker) send(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n, ok := c.next()
		if !ok {
			continue
		}
		if err := c.session.SendText(ctx, strconv.Itoa(n)); err != nil {
			c.fail(ctx, fmt.Errorf("sending %d: %w", n, err))
			return
		}
	}
}

// next returns the number of the next message, unless too many wait for an echo.
func (c *talker) next() (n int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent-c.echoed >= maxInFlight {
		return 0, false
	}
	c.sent++
	c.at[c.sent%maxInFlight] = time.Now()
	return c.sent, true
}

func (c *talker) receive(ctx context.Context) {
	for {
		m, err := c.session.Receive(ctx)
		if err != nil {
			c.fail(ctx, fmt.Errorf("receiving: %w", err))
			return
		}
		c.echo(ctx, string(m.Data))
	}
}

// echo checks that the echo is that of the message after the last echo.
func (c *talker) echo(ctx context.Context, text string) {
	n, err := strconv.Atoi(text)
	c.mu.Lock()
	last := c.echoed
	if err == nil && n > last && n <= c.sent {
		c.echoed = n
		c.pause = max(c.pause, time.Since(c.at[n%maxInFlight]))
	}
	c.mu.Unlock()
	switch {
	case err != nil:
		c.fail(ctx, fmt.Errorf("the echo %q is not a number", text))
	case n <= last:
		c.fail(ctx, fmt.Errorf("message %d arrived after message %d: twice, or out of order", n, last))
	case n > last+1:
		c.fail(ctx, fmt.Errorf("messages %d to %d are lost", last+1, n-1))
	}
}

// fail records a failure, except after close.
func (c *talker) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failures) < 3 { // the first ones say what happened
		c.failures = append(c.failures, err)
	}
}

func (c *talker) onState(s usher.StateChange) {
	if s.State != usher.Attached {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.node != "" && c.node != s.Node {
		c.moves++
	}
	c.node = s.Node
}

func (c *talker) onReset(r usher.Reset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resets++
	c.failures = append(c.failures, fmt.Errorf("the stream was reset: %s, %d messages unconfirmed", r.Reason, len(r.Unconfirmed)))
}

// check returns what has failed so far, and whether the session is another one.
func (c *talker) check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := errors.Join(c.failures...)
	if now := c.session.SessionID(); now != c.id {
		err = errors.Join(err, fmt.Errorf("the session is now %s", now))
	}
	if err != nil {
		return fmt.Errorf("session %s: %w", c.id, err)
	}
	return nil
}

// mark returns the number that the next message will have.
func (c *talker) mark() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent + 1
}

// reached reports whether the message with the number has been echoed.
func (c *talker) reached(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.echoed >= n
}

// close closes the session, without waiting for echoes.
func (c *talker) close() {
	c.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	canceled, now := context.WithCancel(ctx)
	now()
	_ = c.session.Close(canceled) // does not wait for unconfirmed messages
	_ = c.session.Close(ctx)
	c.wg.Wait()
}
