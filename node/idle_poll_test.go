package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/coder/websocket"
	"pgregory.net/rapid"

	"github.com/usher-broker/usher/proto"
)

// awaitIdle makes the user's connection idle and waits until it has no reader.
func (r *rig) awaitIdle(app *callRecorder, user string) *conn {
	r.t.Helper()
	s := app.session(r.t, user)
	var c *conn
	eventually(r.t, func() error {
		r.node.checkSession(s, time.Now().Add(idleAfter+time.Second))
		s.mu.Lock()
		defer s.mu.Unlock()
		if c = s.conn; c == nil || c.net.idle.polled.Load() == nil {
			return errors.New("the connection still has a reader")
		}
		return nil
	})
	return c
}

func eachTransport(t *testing.T, f func(t *testing.T, secure bool)) {
	if !canIdlePoll {
		t.Skip("connections do not park on this system")
	}
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "TLS"}[secure], func(t *testing.T) { f(t, secure) })
	}
}

// A connection without a reader gets one when data arrives, repeatedly and with data
// in pieces. It answers pings, and its end is noticed.
func TestIdle(t *testing.T) {
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
			r.awaitIdle(app, "ada")
			c.send(text("%d", i))
			app.await(t, "ada", append([]string{"opened"}, messagesUpTo(i)...)...)
			go r.awaitIdle(app, "ada").ping()
			if err := app.session(t, "ada").Send(text("to the idle client")); err != nil {
				t.Fatal(err)
			}
			if m := c.message(); string(m.Data) != "to the idle client" { // the client answers the ping while it waits
				t.Errorf("got %q", m.Data)
			}
		}
		r.awaitIdle(app, "ada")
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
func TestIdleEnds(t *testing.T) {
	eachTransport(t, func(t *testing.T, secure bool) {
		app := newCallRecorder()
		r := newRig(t, app, nil)
		if secure {
			r.useTLS()
		}
		claims := r.login("ada")
		c := r.attach(claims, "")
		first := r.awaitIdle(app, "ada")
		back := r.attach(claims, resumeQuery(c.welcome.Stream, 0))
		if code := c.closed(); code != int(proto.CloseReplaced) {
			t.Errorf("the first connection was closed with %d", code)
		}
		eventually(t, func() error {
			if first.net.idle.polled.Load() != nil {
				return errors.New("the replaced connection is still idle")
			}
			return nil
		})
		r.awaitIdle(app, "ada")
		if err := app.session(t, "ada").Close(4500, "over"); err != nil {
			t.Fatal(err)
		}
		if code := back.closed(); code != 4500 {
			t.Errorf("closed with %d", code)
		}
		r.attach(r.login("bob"), "")
		r.awaitIdle(app, "bob") // the Shutdown of the rig must end
	})
}

// An idle session has no goroutine.
func TestIdleGoroutines(t *testing.T) {
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
		for i := range n {
			r.awaitIdle(app, fmt.Sprint("user-", i))
		}
		eventually(t, func() error {
			if now := runtime.NumGoroutine(); now > before-n {
				return fmt.Errorf("%d goroutines, %d before %d sessions were idle", now, before, n)
			}
			return nil
		})
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

// completeFrame reads exactly the complete messages that the library would read.
func TestCompleteFrame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload")
		first := rapid.SampledFrom([]byte{0x81, 0x82, 0x82, 0x02, 0x80, 0x88, 0x89, 0xc2}).Draw(t, "first")
		masked := rapid.IntRange(0, 5).Draw(t, "masked") > 0
		key := [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "key"))
		frame := appendFrameHeader(nil, first&0xf, len(payload))
		frame[0] = first
		if masked {
			frame[1] |= 0x80
			frame = append(frame, key[:]...)
		}
		start := len(frame)
		for i, b := range payload {
			if masked {
				b ^= key[i&3]
			}
			frame = append(frame, b)
		}
		cut := rapid.IntRange(0, len(frame)).Draw(t, "cut")
		complete := masked && (first == 0x81 || first == 0x82)
		rest := append(bytes.Clone(frame), 0x82, 0x80)
		isText, got, n := completeFrame(rest)
		if complete != (n > 0) {
			t.Fatalf("% x: %d bytes are a complete message", frame, n)
		}
		if _, _, n := completeFrame(frame[:cut]); n != 0 && cut < len(frame) {
			t.Fatalf("% x: %d of %d bytes are a complete message", frame, cut, len(frame))
		}
		if !complete {
			return
		}
		if n != len(frame) || n-len(got) != start || isText != (first == 0x81) {
			t.Fatalf("% x: text %v, %d bytes of %d", frame, isText, len(got), n)
		}
		unmask(got, [4]byte(rest[start-4:]))
		if !bytes.Equal(got, payload) {
			t.Fatalf("% x is not % x", got, payload)
		}
	})
}

// useTLS makes the rig serve with TLS.
func (r *rig) useTLS() {
	r.http.Close()
	r.http = httptest.NewUnstartedServer(r.node.Handler())
	r.http.StartTLS()
	r.client = r.http.Client()
}
