package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// talker is a client that sends 1, 2, 3 … and checks that the echoes come back
// in that order, each once. What was reset may be missing, and nothing else.
type talker struct {
	session *usher.Session
	stop    context.CancelFunc
	goes    sync.WaitGroup

	mu       sync.Mutex
	sent     int
	echoed   int // highest number that came back
	missing  int // numbers that were passed over
	doubled  int // numbers that came back again, or out of order
	states   []moment
	resets   []string
	resetAt  int // numbers up to here may be missing
	failures []error
	sentAt   [ahead]time.Time // of the latest, by number
	slowest  time.Duration    // from a message to its echo
}

// moment is a change of state.
type moment struct {
	state usher.State
	node  string
	at    time.Time
	err   error
}

// talk logs in and begins to talk, a message every so often.
func talk(t testing.TB, cfg usher.Config, every time.Duration) *talker {
	t.Helper()
	tk := &talker{}
	cfg.OnState, cfg.OnReset = tk.onState, tk.onReset
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := usher.Connect(ctx, cfg)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	tk.session = s
	ctx, tk.stop = context.WithCancel(context.Background())
	tk.goes.Go(func() { tk.send(ctx, every) })
	tk.goes.Go(func() { tk.receive(ctx) })
	t.Cleanup(tk.close)
	return tk
}

// talkers logs in n of them, a few at a time.
func talkers(t testing.TB, n int, every time.Duration, cfg func(name string) usher.Config) []*talker {
	t.Helper()
	list := make([]*talker, n)
	for i := range list {
		list[i] = talk(t, cfg("guest-"+strconv.Itoa(i+1)), every)
	}
	return list
}

// ahead bounds what a talker has under way.
const ahead = 64

func (tk *talker) send(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		tk.mu.Lock()
		if tk.sent-max(tk.echoed, tk.resetAt) >= ahead {
			tk.mu.Unlock()
			continue
		}
		tk.sent++ // first: a reset must find it counted
		n := tk.sent
		tk.sentAt[n%ahead] = time.Now()
		tk.mu.Unlock()
		if err := tk.session.SendText(ctx, strconv.Itoa(n)); err != nil {
			tk.fail(ctx, "send", err)
			return
		}
	}
}

func (tk *talker) receive(ctx context.Context) {
	for {
		m, err := tk.session.Receive(ctx)
		if err != nil {
			tk.fail(ctx, "receive", err)
			return
		}
		n, err := strconv.Atoi(string(m.Data))
		if err != nil {
			tk.fail(ctx, "receive", err)
			return
		}
		tk.mu.Lock()
		switch {
		case n <= tk.echoed:
			tk.doubled++
		case n > tk.echoed+1:
			tk.missing += max(0, n-1-max(tk.echoed, tk.resetAt))
		}
		tk.echoed = max(tk.echoed, n)
		if n > tk.sent-ahead {
			tk.slowest = max(tk.slowest, time.Since(tk.sentAt[n%ahead]))
		}
		tk.mu.Unlock()
	}
}

func (tk *talker) fail(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	tk.mu.Lock()
	defer tk.mu.Unlock()
	tk.failures = append(tk.failures, fmt.Errorf("%s: %w", what, err))
}

func (tk *talker) onState(c usher.StateChange) {
	tk.mu.Lock()
	defer tk.mu.Unlock()
	tk.states = append(tk.states, moment{c.State, c.Node, time.Now(), c.Err})
}

func (tk *talker) onReset(r usher.Reset) {
	tk.mu.Lock()
	defer tk.mu.Unlock()
	tk.resets = append(tk.resets, r.Reason)
	tk.resetAt = tk.sent
}

// close leaves the session and waits until nothing is left of it. What is
// under way does not matter any more: the first Close does not wait for it.
func (tk *talker) close() {
	tk.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	hasty, now := context.WithCancel(ctx)
	now()
	_ = tk.session.Close(hasty)
	_ = tk.session.Close(ctx)
	tk.goes.Wait()
}

// view returns a copy of what the talker has seen.
func (tk *talker) view() (states []moment, resets []string, echoed int) {
	tk.mu.Lock()
	defer tk.mu.Unlock()
	return append([]moment(nil), tk.states...), append([]string(nil), tk.resets...), tk.echoed
}

// fault says what the talker has seen that must never be, or nil.
func (tk *talker) fault() error {
	tk.mu.Lock()
	defer tk.mu.Unlock()
	var wrong error
	if tk.missing+tk.doubled > 0 {
		wrong = fmt.Errorf("%s: of %d messages, %d lost and %d doubled or out of order",
			tk.session.SessionID(), tk.sent, tk.missing, tk.doubled)
	}
	return errors.Join(append(tk.failures, wrong)...)
}

// since returns the first change to the state after the moment.
func (tk *talker) since(state usher.State, t0 time.Time) (moment, bool) {
	states, _, _ := tk.view()
	for _, m := range states {
		if m.state == state && m.at.After(t0) {
			return m, true
		}
	}
	return moment{}, false
}

// elsewhere returns the first time after the moment that the talker was attached
// to another node.
func (tk *talker) elsewhere(not string, t0 time.Time) (moment, bool) {
	states, _, _ := tk.view()
	for _, m := range states {
		if m.state == usher.Attached && m.at.After(t0) && m.node != not {
			return m, true
		}
	}
	return moment{}, false
}

// awaitEchoes waits until every talker has had echoes of what it sends from
// now on.
func awaitEchoes(t testing.TB, list []*talker, within time.Duration) {
	t.Helper()
	marks := make([]int, len(list))
	for i, tk := range list {
		tk.mu.Lock()
		marks[i] = tk.sent + 1
		tk.mu.Unlock()
	}
	await(t, "echoes", within, func() bool {
		for i, tk := range list {
			if err := tk.fault(); err != nil {
				t.Fatal(err)
			}
			if _, _, echoed := tk.view(); echoed < marks[i] {
				return false
			}
		}
		return true
	})
}
