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

// echoClient is a client that sends 1, 2, 3 … to an echo application and checks
// that the echoes arrive in that order, each once. Only messages sent before a
// reset of the stream may be missing.
type echoClient struct {
	session *usher.Session
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu         sync.Mutex
	sent       int
	echoed     int // highest number received
	missing    int // numbers that were skipped
	duplicates int // numbers that arrived again, or out of order
	states     []stateEvent
	resets     []string
	resetAt    int // numbers up to here may be missing
	failures   []error
	sentAt     [maxInFlight]time.Time // send times of the latest messages, by number modulo maxInFlight
	slowest    time.Duration          // longest time from a message to its echo
}

// stateEvent is a change of the session's state.
type stateEvent struct {
	state usher.State
	node  string
	at    time.Time
	err   error
}

// startEchoClient logs in, attaches, and sends a message every interval until the
// test ends.
func startEchoClient(t testing.TB, cfg usher.Config, every time.Duration) *echoClient {
	t.Helper()
	ec := &echoClient{}
	cfg.OnState, cfg.OnReset = ec.onState, ec.onReset
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := usher.Connect(ctx, cfg)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	ec.session = s
	ctx, ec.stop = context.WithCancel(context.Background())
	ec.wg.Go(func() { ec.send(ctx, every) })
	ec.wg.Go(func() { ec.receive(ctx) })
	t.Cleanup(ec.close)
	return ec
}

// startEchoClients starts n echo clients, named guest-1, guest-2 and so on.
func startEchoClients(t testing.TB, n int, every time.Duration, cfg func(name string) usher.Config) []*echoClient {
	t.Helper()
	clients := make([]*echoClient, n)
	for i := range clients {
		clients[i] = startEchoClient(t, cfg("guest-"+strconv.Itoa(i+1)), every)
	}
	return clients
}

// maxInFlight bounds the messages of a client that have not been echoed.
const maxInFlight = 64

func (ec *echoClient) send(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ec.mu.Lock()
		if ec.sent-max(ec.echoed, ec.resetAt) >= maxInFlight {
			ec.mu.Unlock()
			continue
		}
		ec.sent++ // before the send, so that a reset counts this message
		n := ec.sent
		ec.sentAt[n%maxInFlight] = time.Now()
		ec.mu.Unlock()
		if err := ec.session.SendText(ctx, strconv.Itoa(n)); err != nil {
			ec.fail(ctx, "send", err)
			return
		}
	}
}

func (ec *echoClient) receive(ctx context.Context) {
	for {
		m, err := ec.session.Receive(ctx)
		if err != nil {
			ec.fail(ctx, "receive", err)
			return
		}
		n, err := strconv.Atoi(string(m.Data))
		if err != nil {
			ec.fail(ctx, "receive", err)
			return
		}
		ec.mu.Lock()
		switch {
		case n <= ec.echoed:
			ec.duplicates++
		case n > ec.echoed+1:
			ec.missing += max(0, n-1-max(ec.echoed, ec.resetAt))
		}
		ec.echoed = max(ec.echoed, n)
		if n > ec.sent-maxInFlight {
			ec.slowest = max(ec.slowest, time.Since(ec.sentAt[n%maxInFlight]))
		}
		ec.mu.Unlock()
	}
}

func (ec *echoClient) fail(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	ec.mu.Lock()
	defer ec.mu.Unlock()
	ec.failures = append(ec.failures, fmt.Errorf("%s: %w", what, err))
}

func (ec *echoClient) onState(c usher.StateChange) {
	ec.mu.Lock()
	defer ec.mu.Unlock()
	ec.states = append(ec.states, stateEvent{c.State, c.Node, time.Now(), c.Err})
}

func (ec *echoClient) onReset(r usher.Reset) {
	ec.mu.Lock()
	defer ec.mu.Unlock()
	ec.resets = append(ec.resets, r.Reason)
	ec.resetAt = ec.sent
}

// close closes the session and waits until its goroutines have ended. The first
// Close has a canceled context, so that it does not wait for unconfirmed messages.
func (ec *echoClient) close() {
	ec.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	canceled, cancelNow := context.WithCancel(ctx)
	cancelNow()
	_ = ec.session.Close(canceled)
	_ = ec.session.Close(ctx)
	ec.wg.Wait()
}

// view returns copies of the state changes and reset reasons so far, and the
// highest number that was echoed.
func (ec *echoClient) view() (states []stateEvent, resets []string, echoed int) {
	ec.mu.Lock()
	defer ec.mu.Unlock()
	return append([]stateEvent(nil), ec.states...), append([]string(nil), ec.resets...), ec.echoed
}

// verify returns an error if a message was lost, duplicated or out of order, or
// if sending or receiving failed.
func (ec *echoClient) verify() error {
	ec.mu.Lock()
	defer ec.mu.Unlock()
	var lost error
	if ec.missing+ec.duplicates > 0 {
		lost = fmt.Errorf("%s: of %d messages, %d lost and %d duplicated or out of order",
			ec.session.SessionID(), ec.sent, ec.missing, ec.duplicates)
	}
	return errors.Join(append(ec.failures, lost)...)
}

// since returns the first change to the state after t0, and whether there is one.
func (ec *echoClient) since(state usher.State, t0 time.Time) (stateEvent, bool) {
	states, _, _ := ec.view()
	for _, m := range states {
		if m.state == state && m.at.After(t0) {
			return m, true
		}
	}
	return stateEvent{}, false
}

// attachedElsewhere returns the first attach after t0 to a node other than not,
// and whether there is one.
func (ec *echoClient) attachedElsewhere(not string, t0 time.Time) (stateEvent, bool) {
	states, _, _ := ec.view()
	for _, m := range states {
		if m.state == usher.Attached && m.at.After(t0) && m.node != not {
			return m, true
		}
	}
	return stateEvent{}, false
}

// awaitEchoes waits until every client has received the echo of a message that it
// sent after this call. It fails the test if verify of a client fails.
func awaitEchoes(t testing.TB, clients []*echoClient, within time.Duration) {
	t.Helper()
	marks := make([]int, len(clients))
	for i, ec := range clients {
		ec.mu.Lock()
		marks[i] = ec.sent + 1
		ec.mu.Unlock()
	}
	await(t, "echoes", within, func() bool {
		for i, ec := range clients {
			if err := ec.verify(); err != nil {
				t.Fatal(err)
			}
			if _, _, echoed := ec.view(); echoed < marks[i] {
				return false
			}
		}
		return true
	})
}
