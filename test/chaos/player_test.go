package chaos

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// player is a client that sends 1, 2, 3 … and expects the answers in order and
// every push exactly once.
type player struct {
	world   *world
	name    string // as a dialer in the network
	user    string
	session *usher.Session
	sid     string
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	wake    chan struct{}

	mu       sync.Mutex
	target   int // messages to send
	sent     int
	answers  int
	pushed   map[string]int  // pushes received, by key
	expected map[string]bool // pushes to receive, by key
	resets   []string
	ended    error
	mayEnd   bool // another client of the user logged in, or took the session over
}

// join starts a player. It logs in at the auth with the index. If at is not nil, it
// takes over that session instead, with the session's key.
func (w *world) join(name, user string, auth int, at *proto.Assignment, key crypto.Signer) (*player, error) {
	p := &player{world: w, name: name, user: user, wake: make(chan struct{}, 1), pushed: map[string]int{}, expected: map[string]bool{}}
	cfg := usher.Config{
		Auth:    "http://" + w.auths[auth].name,
		OnState: p.onState, OnReset: p.onReset,
		Dial: func(ctx context.Context, _, addr string) (net.Conn, error) { return w.net.dial(ctx, name, addr) },
		Rand: w.net.random(name).float, Logger: w.log.With("at", name),
	}
	if at != nil {
		cfg.Assignment, cfg.Key = at, key
	} else {
		cfg.Credentials = usher.Guest(user)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, err := usher.Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	p.session, p.sid = s, s.SessionID()
	ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(func() { p.send(ctx) })
	p.wg.Go(func() { p.receive(ctx) })
	return p, nil
}

// sendMore makes the player send n more messages.
func (p *player) sendMore(n int) {
	p.mu.Lock()
	p.target += n
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *player) send(ctx context.Context) {
	for {
		p.mu.Lock()
		due := p.sent < p.target
		if due {
			p.sent++
		}
		n := p.sent
		p.mu.Unlock()
		if !due {
			select {
			case <-ctx.Done():
				return
			case <-p.wake:
			}
			continue
		}
		if err := p.session.SendText(ctx, strconv.Itoa(n)); err != nil {
			p.noteEnd(ctx, err)
			return
		}
	}
}

func (p *player) receive(ctx context.Context) {
	for {
		m, err := p.session.Receive(ctx)
		if err != nil {
			p.noteEnd(ctx, err)
			return
		}
		p.mu.Lock()
		if key, ok := strings.CutPrefix(string(m.Data), "p"); ok {
			p.pushed[key]++
		} else if want := fmt.Sprint("r", p.answers+1); string(m.Data) == want {
			p.answers++
		} else {
			p.world.app.fault("%s: got %q, want %s", p.name, m.Data, want)
		}
		p.mu.Unlock()
	}
}

// noteEnd records the end of the session, which is a fault unless mayEnd is set.
func (p *player) noteEnd(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = err
	if !p.mayEnd {
		p.world.app.fault("%s: the session ended: %v", p.name, err)
	}
}

func (p *player) onState(c usher.StateChange) {
	if c.State == usher.Ended && c.Err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.mayEnd && !errors.Is(c.Err, usher.ErrClosed) {
			p.world.app.fault("%s: ended: %v", p.name, c.Err)
		}
	}
}

func (p *player) onReset(r usher.Reset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resets = append(p.resets, r.Reason)
	if !p.mayEnd {
		p.world.app.fault("%s: the stream was reset: %s", p.name, r.Reason)
	}
}

// allowEnd sets mayEnd: from now on the session may end or be reset.
func (p *player) allowEnd() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mayEnd = true
}

// awaitEnd waits until the player's session is in the state Ended.
func (p *player) awaitEnd(within time.Duration) error {
	for deadline := time.Now().Add(within); p.session.State() != usher.Ended; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: still %v after %v", p.name, p.session.State(), within)
		}
	}
	return nil
}

// unsettled returns why the player is not in its final state, or "".
func (p *player) unsettled() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	state, known := p.session.State(), p.world.app.get(p.sid)
	switch {
	case state != usher.Attached:
		return fmt.Sprintf("%s is %v", p.name, state)
	case p.sent != p.target || p.answers != p.sent:
		return fmt.Sprintf("%s: %d to send, %d sent, %d answered", p.name, p.target, p.sent, p.answers)
	case known.Received != p.sent || known.Sent != p.sent:
		return fmt.Sprintf("%s: %d sent, but the application has %+v", p.name, p.sent, known)
	}
	for key := range p.expected {
		if p.pushed[key] == 0 {
			return fmt.Sprintf("%s: push %s did not arrive", p.name, key)
		}
	}
	return ""
}

// leave closes the session and checks the pushes that the player received.
func (p *player) leave() {
	p.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	canceled, cancelNow := context.WithCancel(ctx)
	cancelNow()
	_ = p.session.Close(canceled)
	_ = p.session.Close(ctx)
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, n := range p.pushed {
		if n != 1 || !p.expected[key] {
			p.world.app.fault("%s: push %s arrived %d times", p.name, key, n)
		}
	}
}
