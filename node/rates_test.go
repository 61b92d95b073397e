package node

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/usher-broker/usher/proto"
)

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
