package node

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// readers returns how many goroutines read connections of nodes in this process.
func readers() int {
	b := make([]byte, 4<<20)
	b = b[:runtime.Stack(b, true)]
	return bytes.Count(b, []byte("internal/wire.(*reader).serve("))
}

// awaitRest makes the user's connection rest and waits until no connection of the
// process has a reader.
func (r *rig) awaitRest(app *callRecorder, user string) *conn {
	r.t.Helper()
	s := app.session(r.t, user)
	var c *conn
	eventually(r.t, func() error {
		r.node.checkSession(s, time.Now().Add(restAfter+time.Second))
		s.mu.Lock()
		c = s.conn
		s.mu.Unlock()
		if n := readers(); c == nil || n > 0 {
			return fmt.Errorf("connection %v, %d readers", c != nil, n)
		}
		return nil
	})
	return c
}

func eachTransport(t *testing.T, f func(t *testing.T, secure bool)) {
	if runtime.GOOS != "linux" {
		t.Skip("connections do not rest on this system")
	}
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "TLS"}[secure], func(t *testing.T) { f(t, secure) })
	}
}

// A connection without a reader gets one when data arrives, repeatedly and with data
// in pieces. It answers pings, and its end is noticed.
func TestRest(t *testing.T) {
	eachTransport(t, func(t *testing.T, secure bool) {
		app := newCallRecorder()
		r := newRig(t, app, func(c *Config) { c.PingInterval = time.Hour / 2 })
		if secure {
			r.useTLS()
		}
		claims := r.login("ada")
		c := r.attach(claims, "")
		app.await(t, "ada", "opened")
		for i := range 5 {
			r.awaitRest(app, "ada")
			c.send(text("%d", i))
			app.await(t, "ada", append([]string{"opened"}, messagesUpTo(i)...)...)
			r.awaitRest(app, "ada").ws.Ping()
			if err := app.session(t, "ada").Send(text("to the idle client")); err != nil {
				t.Fatal(err)
			}
			if m := c.message(); string(m.Data) != "to the idle client" { // the client answers the ping while it waits
				t.Errorf("got %q", m.Data)
			}
		}
		r.awaitRest(app, "ada")
		c.ws.CloseNow()
		app.await(t, "ada", append(append([]string{"opened"}, messagesUpTo(4)...), "detached")...)
	})
}

func messagesUpTo(n int) (list []string) {
	for i := range n + 1 {
		list = append(list, fmt.Sprintf("message %d", i))
	}
	return list
}

// A connection without a reader can be ended by its node, by a client that comes
// back, and by Shutdown.
func TestRestEnds(t *testing.T) {
	eachTransport(t, func(t *testing.T, secure bool) {
		app := newCallRecorder()
		r := newRig(t, app, nil)
		if secure {
			r.useTLS()
		}
		claims := r.login("ada")
		c := r.attach(claims, "")
		r.awaitRest(app, "ada")
		back := r.attach(claims, resumeQuery(c.welcome.Stream, 0))
		if code := c.closed(); code != int(proto.CloseReplaced) {
			t.Errorf("the first connection was closed with %d", code)
		}
		r.awaitRest(app, "ada")
		if err := app.session(t, "ada").Close(4500, "over"); err != nil {
			t.Fatal(err)
		}
		if code := back.closed(); code != 4500 {
			t.Errorf("closed with %d", code)
		}
		r.attach(r.login("bob"), "")
		r.awaitRest(app, "bob") // the Shutdown of the rig must end
	})
}

// Sessions at rest have no goroutine.
func TestRestGoroutines(t *testing.T) {
	eachTransport(t, func(t *testing.T, secure bool) {
		app := newCallRecorder()
		r := newRig(t, app, nil)
		if secure {
			r.useTLS()
		}
		const n = 40
		for i := range n {
			r.attach(r.login(fmt.Sprint("user-", i)), "")
		}
		before := runtime.NumGoroutine()
		eventually(t, func() error {
			for _, s := range r.node.all() {
				r.node.checkSession(s, time.Now().Add(restAfter+time.Second))
			}
			if now := runtime.NumGoroutine(); now > before-n || readers() > 0 {
				return fmt.Errorf("%d goroutines, %d before %d sessions rested", now, before, n)
			}
			return nil
		})
	})
}

// A node that nobody touches leaves a silent connection without a reader most of the
// time, although it pings the client.
func TestRestsByItself(t *testing.T) {
	eachTransport(t, func(t *testing.T, secure bool) {
		const interval = 400 * time.Millisecond
		r := newRig(t, newCallRecorder(), func(c *Config) { c.PingInterval = interval })
		if secure {
			r.useTLS()
		}
		c := r.attach(r.login("ada"), "")
		gone := c.ws.CloseRead(context.Background()) // answers the pings
		time.Sleep(2 * interval)
		const samples = 40
		busy := 0
		for range samples {
			time.Sleep(interval / 10)
			busy += min(readers(), 1)
		}
		if busy > samples/4 {
			t.Errorf("a reader in %d of %d samples", busy, samples)
		}
		if gone.Err() != nil {
			t.Error("the connection is broken")
		}
		c.ws.CloseNow()
	})
}

// Messages that arrive slowly are acknowledged in time, and not only after 32 of
// them.
func TestAcknowledgesTrickle(t *testing.T) {
	r := newRig(t, newCallRecorder(), nil)
	c := r.attach(r.login("ada"), "")
	acked := make(chan uint64, 100)
	go func() {
		for {
			typ, b, err := c.ws.Read(context.Background())
			if err != nil {
				close(acked)
				return
			}
			if ctl, err := proto.ParseControl(b); err == nil && typ == websocket.MessageText && ctl.Type == proto.TypeAck {
				acked <- ctl.Received
			}
		}
	}()
	for i := range 30 {
		c.send(text("%d", i))
		time.Sleep(50 * time.Millisecond)
	}
	select {
	case n := <-acked:
		if n == 0 || n >= 30 {
			t.Errorf("the first acknowledgement is of %d messages", n)
		}
	case <-time.After(10 * time.Second):
		t.Error("1.5 s of messages, and none was acknowledged")
	}
	c.ws.CloseNow()
	for range acked {
		continue
	}
}

// useTLS makes the rig serve with TLS.
func (r *rig) useTLS() {
	r.http.Close()
	r.http = httptest.NewUnstartedServer(r.node.Handler())
	r.http.StartTLS()
	r.client = r.http.Client()
}
