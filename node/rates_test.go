package node

import (
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/usher-broker/usher/proto"
)

// A connection within its rate does not wait. After any silence it may send two
// seconds' worth at once, and the excess waits as long as the rate says.
func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{}
		m := newMeter(Rates{Bytes: -1, Messages: 100, Frames: 1000, Pings: 10}, newMetrics(prometheus.NewRegistry(), n), slog.New(slog.DiscardHandler))
		peer, _ := net.Pipe()
		var s spent
		charge := func(n amounts) time.Duration {
			start := time.Now()
			m.charge(&s, at(start), n, peer)
			return time.Since(start)
		}
		for range 500 { // at the rate
			if wait := charge(amounts{rateMessages: 1, rateFrames: 1, rateBytes: 1 << 40}); wait != 0 {
				t.Fatalf("waited %v within the rate", wait)
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Hour)
		if wait := charge(amounts{rateMessages: 200}); wait != 0 {
			t.Errorf("waited %v for a burst", wait)
		}
		if wait := charge(amounts{rateMessages: 50}); wait != 500*time.Millisecond {
			t.Errorf("waited %v for half a second's worth", wait)
		}
		if wait := charge(amounts{rateFrames: 1}); wait != 0 {
			t.Errorf("a frame waited %v for messages", wait)
		}
		if wait := charge(amounts{ratePings: 30, rateMessages: 1}); wait != time.Second {
			t.Errorf("pings waited %v", wait)
		}
		for name, want := range map[int]float64{rateBytes: 0, rateMessages: 1, rateFrames: 0, ratePings: 1} {
			if n := testutil.ToFloat64(m.slowed[name]); n != want {
				t.Errorf("%s: %v waits counted, want %v", rateNames[name], n, want)
			}
		}
	})
}

// A client that floods is read slowly and loses nothing. Another client is served in
// the meantime.
func TestFlood(t *testing.T) {
	r := newRig(t, Echo{}, func(c *Config) { c.Rates = Rates{Messages: 200, Pings: 20} })
	flooder, other := r.attach(r.login("eve"), ""), r.attach(r.login("ada"), "")
	start := time.Now()
	const flood = 700
	go func() {
		for range flood {
			flooder.send(proto.Message{Data: []byte("x")})
		}
	}()
	for i := range 20 {
		other.send(text("%d", i))
		other.message()
	}
	if took := time.Since(start); took > time.Second {
		t.Logf("20 echoes to the other one took %v", took)
	}
	for range flood {
		flooder.message()
	}
	// 400 at once, then 200 a second.
	if took := time.Since(start); took < time.Second {
		t.Errorf("%d messages were accepted within %v", flood, took)
	}
	if n := testutil.ToFloat64(r.node.metrics.slowed.WithLabelValues("messages")); n == 0 {
		t.Error("not counted")
	}
}

// DetachedBytes limits the data kept for all detached sessions together. The count
// falls when they come back or end.
func TestDetachedBytes(t *testing.T) {
	app := newCallRecorder()
	r := newRig(t, app, func(c *Config) { c.DetachedBytes = 1000 })
	claims := map[string]proto.Claims{}
	for _, user := range []string{"ada", "bob", "eve"} {
		claims[user] = r.login(user)
		cl := r.attach(claims[user], "")
		cl.ws.CloseNow()
		app.await(t, user, "opened", "detached")
	}
	some := func() proto.Message { return proto.Message{Data: make([]byte, 400)} }
	for _, user := range []string{"ada", "bob"} {
		if err := app.session(t, user).Send(some()); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.node.kept.Load(); n != 800 {
		t.Errorf("%d bytes are counted", n)
	}
	if err := app.session(t, "eve").Send(some()); err != ErrOverflow {
		t.Errorf("a third one: %v, want an overflow", err)
	}
	if err := app.session(t, "ada").Close(4500, "bye"); err != nil {
		t.Fatal(err)
	}
	back := r.attach(claims["bob"], "")
	if n := r.node.kept.Load(); n != 0 {
		t.Errorf("%d bytes are counted when all are back or gone", n)
	}
	for range 5 { // while attached, only the limits of the session count
		if err := app.session(t, "bob").Send(some()); err != nil {
			t.Error(err)
		}
		back.message()
	}
	app.await(t, "eve", "opened", "detached", "reset overflow 0 away")
}
