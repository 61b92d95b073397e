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
// each push once.
type player struct {
	world   *world
	wire    string // the name of its end of wires
	user    string
	session *usher.Session
	sid     string
	cancel  context.CancelFunc
	goes    sync.WaitGroup
	wake    chan struct{}

	mu      sync.Mutex
	target  int // messages to send
	sent    int
	answers int
	pushed  map[string]int // what came, by key
	wanted  map[string]bool
	resets  []string
	ended   error
	leaves  bool // its session may end: another has logged in, or taken it over
}

// join logs in at one of the auths, or takes over the session, with its key.
func (w *world) join(wire, user string, door int, at *proto.Assignment, key crypto.Signer) (*player, error) {
	p := &player{world: w, wire: wire, user: user, wake: make(chan struct{}, 1), pushed: map[string]int{}, wanted: map[string]bool{}}
	cfg := usher.Config{
		Auth:    "http://" + w.auths[door].name,
		OnState: p.onState, OnReset: p.onReset,
		Dial: func(ctx context.Context, _, addr string) (net.Conn, error) { return w.net.dial(ctx, wire, addr) },
		Rand: w.net.chance(wire).float, Logger: w.log.With("at", wire),
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
	p.goes.Go(func() { p.send(ctx) })
	p.goes.Go(func() { p.receive(ctx) })
	return p, nil
}

// say has the player send more messages.
func (p *player) say(n int) {
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
			p.over(ctx, err)
			return
		}
	}
}

func (p *player) receive(ctx context.Context) {
	for {
		m, err := p.session.Receive(ctx)
		if err != nil {
			p.over(ctx, err)
			return
		}
		p.mu.Lock()
		if key, ok := strings.CutPrefix(string(m.Data), "p"); ok {
			p.pushed[key]++
		} else if want := fmt.Sprint("r", p.answers+1); string(m.Data) == want {
			p.answers++
		} else {
			p.world.app.fault("%s: got %q, want %s", p.wire, m.Data, want)
		}
		p.mu.Unlock()
	}
}

// over notes the end of the session.
func (p *player) over(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = err
	if !p.leaves {
		p.world.app.fault("%s: the session ended: %v", p.wire, err)
	}
}

func (p *player) onState(c usher.StateChange) {
	if c.State == usher.Ended && c.Err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.leaves && !errors.Is(c.Err, usher.ErrClosed) {
			p.world.app.fault("%s: ended: %v", p.wire, c.Err)
		}
	}
}

func (p *player) onReset(r usher.Reset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resets = append(p.resets, r.Reason)
	if !p.leaves {
		p.world.app.fault("%s: the stream was reset: %s", p.wire, r.Reason)
	}
}

// mayLeave says that the session is no longer this player's.
func (p *player) mayLeave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaves = true
}

// gone waits until the player has noticed.
func (p *player) gone(within time.Duration) error {
	for deadline := time.Now().Add(within); p.session.State() != usher.Ended; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: still %v after %v", p.wire, p.session.State(), within)
		}
	}
	return nil
}

// settled says what is still missing, or "".
func (p *player) settled() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	state, known := p.session.State(), p.world.app.of(p.sid)
	switch {
	case state != usher.Attached:
		return fmt.Sprintf("%s is %v", p.wire, state)
	case p.sent != p.target || p.answers != p.sent:
		return fmt.Sprintf("%s: %d to send, %d sent, %d answered", p.wire, p.target, p.sent, p.answers)
	case known.Received != p.sent || known.Sent != p.sent:
		return fmt.Sprintf("%s: %d sent, and its node knows of %+v", p.wire, p.sent, known)
	}
	for key := range p.wanted {
		if p.pushed[key] == 0 {
			return fmt.Sprintf("%s: push %s did not come", p.wire, key)
		}
	}
	return ""
}

// leave ends the player and checks what it has seen.
func (p *player) leave() {
	p.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	hasty, now := context.WithCancel(ctx)
	now()
	_ = p.session.Close(hasty)
	_ = p.session.Close(ctx)
	p.goes.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, n := range p.pushed {
		if n != 1 || !p.wanted[key] {
			p.world.app.fault("%s: push %s came %d times", p.wire, key, n)
		}
	}
}
