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

// What the cuts are measured by.
const (
	cutSessions = 40
	cutsEach    = 25
)

// TestCuts cuts the connections of many sessions that talk both ways, at any
// byte and in every way a network has, and looks for a message that was lost,
// came twice or out of order.
func TestCuts(t *testing.T) {
	dev := start(t, "dev", "dev", "--nodes=1", "--auth=127.0.0.1:0", "--api=127.0.0.1:0", "--ops=127.0.0.1:0", "--node-port=0",
		"--log-level=error")
	door := regexp.MustCompile(`login door +http://(\S+)/v1/login`)
	dev.await("say where it is", starts, func() bool { return door.MatchString(dev.said.String()) })
	auth := door.FindStringSubmatch(dev.said.String())[1]

	rapid.Check(t, func(rt *rapid.T) {
		plans := rapid.Custom(drawPlans).Draw(rt, "plans")
		surviveAll(t, rt, auth, plans)
	})
}

// surviveAll has a session go through each of the plans, all at the same time.
func surviveAll(t *testing.T, rt *rapid.T, auth string, plans plans) {
	began := time.Now()
	results := make([]cutResult, len(plans))
	var all sync.WaitGroup
	for i, plan := range plans {
		all.Go(func() { results[i] = surviveCuts(auth, fmt.Sprintf("guest-%d", i), plan) })
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
	t.Logf("%d sessions, %d cuts each: %d messages there and back, %d resumes, in %v",
		len(plans), cutsEach, sum.messages, sum.resumes, time.Since(began).Round(time.Millisecond))
}

// plans say how the connections of each session end.
type plans [][]cut

// GoString is what rapid shows of them: they are a thousand cuts, and the seed
// makes them again.
func (p plans) GoString() string { return fmt.Sprintf("for %d sessions", len(p)) }

func drawPlans(t *rapid.T) plans {
	return rapid.SliceOfN(rapid.Custom(drawPlan), cutSessions, cutSessions).Draw(t, "plan")
}

// drawPlan draws how the connections of one session end. One in three leaves
// the node with a half-open socket; some end in the handshake.
func drawPlan(t *rapid.T) []cut {
	kinds := make([]how, cutsEach)
	for i := range kinds {
		if i < (cutsEach+2)/3 {
			kinds[i] = rapid.SampledFrom([]how{halfOpen, halfOpen, halfOpen, late, late, late, silence}).Draw(t, "half")
		} else {
			kinds[i] = rapid.SampledFrom([]how{reset, fin}).Draw(t, "whole")
		}
	}
	plan := make([]cut, cutsEach)
	for i, k := range rapid.Permutation(kinds).Draw(t, "order") {
		const handshake = 2000 // bytes are enough, with the welcome
		after := handshake + rapid.Int64Range(0, 20_000).Draw(t, "after")
		if rapid.IntRange(0, 7).Draw(t, "early") == 0 {
			after = rapid.Int64Range(1, handshake).Draw(t, "after")
		}
		plan[i] = cut{after, k}
	}
	return plan
}

// cutResult is how a session fared.
type cutResult struct {
	messages int
	resumes  uint64
	err      error
}

// surviveCuts talks until all cuts of the plan have happened and a few messages
// have gone through undisturbed.
func surviveCuts(auth, name string, plan []cut) (r cutResult) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 90*time.Second, errors.New("it takes too long"))
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var resets []string
	wake := make(chan struct{}, 1)
	net := &network{direct: auth, plan: plan, silent: func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}}
	defer net.close()
	session, err := usher.Connect(ctx, usher.Config{
		Auth: "http://" + auth, Credentials: usher.Guest(name), Dial: net.dial, AttachTimeout: 2 * time.Second,
		// A connection that lasts less than 10 s makes the next wait longer, up
		// to 20 s. That is as it should be, and too long for a test.
		Rand:    func() float64 { return rand.Float64() / 50 },
		OnReset: func(r usher.Reset) { resets = append(resets, r.Reason) },
	})
	if err != nil {
		return cutResult{err: fmt.Errorf("connect: %w", err)}
	}
	x := &exchange{session: session, under: make(chan struct{}, 32)}
	var goes sync.WaitGroup
	goes.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-wake: // as a device that notices that its network has changed
				session.NetworkChanged()
			}
		}
	})
	goes.Go(func() {
		if err := x.send(ctx, func() bool { return net.broken() >= len(plan) }); err != nil {
			fail(err)
		}
	})
	r.err = x.receive(ctx)
	if r.err != nil {
		r.err = errors.Join(r.err, context.Cause(ctx))
	}
	fail(nil)
	goes.Wait()
	r.messages, r.resumes = x.next, session.Stats().Resumes
	if r.err == nil { // everything is acknowledged in the end, and nothing came after the last
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

// exchange numbers what it sends and checks the numbers that come back.
type exchange struct {
	session *usher.Session
	under   chan struct{} // a place for each message under way
	next    int           // number that must come back next
}

// payload is message n: its number, whether it is the last, and what else
// there is room for, by the number too.
func payload(n int, last bool) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(n))
	b = append(b, 0)
	if last {
		b[8] = 1
	}
	most := 200
	if n%8 == 0 {
		most = 5000 // more than one read takes in
	}
	for i := range n * 7919 % most {
		b = append(b, byte(n+i))
	}
	return b
}

// send sends numbered messages of all lengths until it is enough, and a few.
func (x *exchange) send(ctx context.Context, enough func() bool) error {
	for n, few := 0, 10; few > 0; n++ {
		if enough() {
			few--
		}
		select {
		case x.under <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := x.session.Send(ctx, payload(n, few == 0)); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// receive receives the echoes up to the last.
func (x *exchange) receive(ctx context.Context) error {
	for {
		m, err := x.session.Receive(ctx)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		last := len(m.Data) > 8 && m.Data[8] == 1
		if want := payload(x.next, last); !bytes.Equal(m.Data, want) {
			return fmt.Errorf("in place of the echo of %d, %d bytes %x…, came %d bytes %x…",
				x.next, len(want), want[:8], len(m.Data), m.Data[:min(8, len(m.Data))])
		}
		x.next++
		if last {
			return nil
		}
		<-x.under // it was sent, so its place is taken
	}
}
