package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

const (
	cutSessions    = 40
	cutsPerSession = 25
)

// TestCuts breaks the connections of many sessions that exchange messages in both
// directions, after any number of bytes and in each way of breakKind. No message
// may be lost, duplicated or out of order.
func TestCuts(t *testing.T) {
	dev := start(t, "dev", "dev", "--nodes=1", "--auth=127.0.0.1:0", "--api=127.0.0.1:0", "--ops=127.0.0.1:0", "--node-port=0",
		"--log-level=error")
	loginAPI := regexp.MustCompile(`login API +http://(\S+)/v1/login`)
	dev.await("print its addresses", startTimeout, func() bool { return loginAPI.MatchString(dev.output.String()) })
	auth := loginAPI.FindStringSubmatch(dev.output.String())[1]

	rapid.Check(t, func(rt *rapid.T) {
		plans := rapid.Custom(drawPlans).Draw(rt, "plans")
		runPlans(t, rt, auth, plans)
	})
}

// runPlans runs one session for each plan, all at the same time.
func runPlans(t *testing.T, rt *rapid.T, auth string, plans plans) {
	began := time.Now()
	results := make([]cutResult, len(plans))
	var all sync.WaitGroup
	for i, plan := range plans {
		all.Go(func() { results[i] = runPlan(auth, fmt.Sprintf("guest-%d", i), plan) })
	}
	all.Wait()
	var sum cutResult
	for i, r := range results {
		if r.err != nil {
			rt.Errorf("session %d: %v", i, r.err)
		}
		sum.messages += r.messages
		sum.resumes += r.resumes
	}
	t.Logf("%d sessions, %d cuts each: %d messages echoed, %d resumes, in %v",
		len(plans), cutsPerSession, sum.messages, sum.resumes, time.Since(began).Round(time.Millisecond))
}

// plans are the cuts of each session.
type plans [][]cut

// GoString keeps the output of rapid short: plans hold a thousand cuts, and the
// seed reproduces them.
func (p plans) GoString() string { return fmt.Sprintf("for %d sessions", len(p)) }

func drawPlans(t *rapid.T) plans {
	return rapid.SliceOfN(rapid.Custom(drawPlan), cutSessions, cutSessions).Draw(t, "plan")
}

// drawPlan draws the cuts of one session. One in three leaves the node with a
// half-open socket. Some happen during the handshake.
func drawPlan(t *rapid.T) []cut {
	kinds := make([]breakKind, cutsPerSession)
	for i := range kinds {
		if i < (cutsPerSession+2)/3 {
			kinds[i] = rapid.SampledFrom([]breakKind{halfOpen, halfOpen, halfOpen, late, late, late, silence}).Draw(t, "half")
		} else {
			kinds[i] = rapid.SampledFrom([]breakKind{reset, fin}).Draw(t, "full")
		}
	}
	plan := make([]cut, cutsPerSession)
	for i, k := range rapid.Permutation(kinds).Draw(t, "order") {
		const handshake = 2000 // bytes; the handshake and the welcome are shorter
		after := handshake + rapid.Int64Range(0, 20_000).Draw(t, "after")
		if rapid.IntRange(0, 7).Draw(t, "early") == 0 {
			after = rapid.Int64Range(1, handshake).Draw(t, "after")
		}
		plan[i] = cut{after, k}
	}
	return plan
}

// cutResult is the result of runPlan.
type cutResult struct {
	messages int
	resumes  uint64
	err      error
}

// runPlan exchanges messages until all cuts of the plan have happened and a few
// more messages have been echoed. It then checks that every message is
// acknowledged and that the stream was never reset.
func runPlan(auth, name string, plan []cut) (r cutResult) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 90*time.Second, errors.New("not done within 90 s"))
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var resets []string
	wake := make(chan struct{}, 1)
	net := &faultyNet{direct: auth, plan: plan, silent: func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}}
	defer net.close()
	session, err := usher.Connect(ctx, usher.Config{
		Auth: "http://" + auth, Credentials: usher.Guest(name), Dial: net.dial, AttachTimeout: 2 * time.Second,
		// The SDK waits longer after each connection that lasts less than 10 s,
		// up to 20 s. A small random factor keeps the test short.
		Rand:    func() float64 { return rand.Float64() / 50 },
		OnReset: func(r usher.Reset) { resets = append(resets, r.Reason) },
	})
	if err != nil {
		return cutResult{err: fmt.Errorf("connect: %w", err)}
	}
	x := &exchange{session: session, inFlight: make(chan struct{}, 32)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-wake: // as the app does when the device reports a network change
				session.NetworkChanged()
			}
		}
	})
	wg.Go(func() {
		if err := x.send(ctx, func() bool { return net.broken() >= len(plan) }); err != nil {
			fail(err)
		}
	})
	r.err = x.receive(ctx)
	if r.err != nil {
		r.err = errors.Join(r.err, context.Cause(ctx))
	}
	fail(nil)
	wg.Wait()
	r.messages, r.resumes = x.next, session.Stats().Resumes
	if r.err == nil { // Logout fails if a message stays unconfirmed
		r.err = session.Logout(context.Background())
	}
	if st := session.Stats(); r.err == nil && (st.Sent != uint64(x.next) || st.Received != uint64(x.next)) {
		r.err = errors.New("a message followed the last one")
	}
	_ = session.Close(context.Background())
	if len(resets) > 0 { // written by the session's goroutine, which has ended
		r.err = errors.Join(r.err, fmt.Errorf("the stream was reset: %s", strings.Join(resets, ", ")))
	}
	if r.err != nil {
		r.err = fmt.Errorf("%w; %d of %d cuts, %d messages, %+v", r.err, net.broken(), len(plan), x.next, session.Stats())
	}
	return r
}

// exchange sends numbered messages and checks the numbers of the echoes.
type exchange struct {
	session  *usher.Session
	inFlight chan struct{} // one element for each message that is not echoed yet
	next     int           // number of the next echo
}

// payload returns message n: its number (8 bytes), whether it is the last (1
// byte), and filler bytes, whose count and values depend on n.
func payload(n int, last bool) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(n))
	b = append(b, 0)
	if last {
		b[8] = 1
	}
	most := 200
	if n%8 == 0 {
		most = 5000 // more than one read returns
	}
	for i := range n * 7919 % most {
		b = append(b, byte(n+i))
	}
	return b
}

// send sends numbered messages of different lengths until done returns true, and
// ten more. The last one is marked.
func (x *exchange) send(ctx context.Context, done func() bool) error {
	for n, few := 0, 10; few > 0; n++ {
		if done() {
			few--
		}
		select {
		case x.inFlight <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := x.session.Send(ctx, payload(n, few == 0)); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// receive reads the echoes up to the marked one.
func (x *exchange) receive(ctx context.Context) error {
	for {
		m, err := x.session.Receive(ctx)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		last := len(m.Data) > 8 && m.Data[8] == 1
		if want := payload(x.next, last); !bytes.Equal(m.Data, want) {
			return fmt.Errorf("received a wrong message: want the echo of message %d, %d bytes %x…; got %d bytes %x…",
				x.next, len(want), want[:8], len(m.Data), m.Data[:min(8, len(m.Data))])
		}
		x.next++
		if last {
			return nil
		}
		<-x.inFlight // does not block: the message was sent, so its element is there
	}
}
