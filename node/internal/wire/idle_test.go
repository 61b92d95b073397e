package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/node/internal/wire/wiretest"
)

// awaitRest makes the connection rest and waits until it has no reader.
func (e *echo) awaitRest(t testing.TB) {
	t.Helper()
	eventually(t, func() error {
		e.conn.Rest()
		e.conn.readMu.Lock()
		defer e.conn.readMu.Unlock()
		if e.conn.readState != polled {
			return fmt.Errorf("the connection still has a reader, state %d", e.conn.readState)
		}
		return nil
	})
}

func eachPolledTransport(t *testing.T, f func(t *testing.T, secure bool)) {
	if !canPoll {
		t.Skip("connections do not rest on this system")
	}
	eachTransport(t, f)
}

// A connection that rests reads on when data arrives, repeatedly and with data in
// pieces. It answers pings, and its end is noticed.
func TestRest(t *testing.T) {
	eachPolledTransport(t, func(t *testing.T, secure bool) {
		r := newRig(t, testConfig(), secure)
		c := r.rawDial()
		e := r.last()
		for i := range 5 {
			e.awaitRest(t)
			c.send(0x82, fmt.Sprint(i))
			c.expect(0x82, fmt.Sprint(i))

			e.awaitRest(t)
			for _, b := range wiretest.Masked(nil, 0x89, []byte("anyone?")) {
				if _, err := c.Write([]byte{b}); err != nil {
					t.Fatal(err)
				}
			}
			c.expect(0x8a, "anyone?")

			e.awaitRest(t)
			e.conn.Ping()
			c.expect(0x89, "")
			c.send(0x8a, "")

			e.awaitRest(t)
			e.conn.Begin(true)
			e.conn.Append(true, []byte("to the idle client"), true)
			if _, err := e.conn.Flush(true); err != nil {
				t.Fatal(err)
			}
			c.expect(0x81, "to the idle client")
		}
		e.awaitRest(t)
		c.Close()
		e.awaitClosed(t)
	})
}

// awaitPolled waits until the connection has no reader, and does not ask for that.
func (e *echo) awaitPolled(t testing.TB) {
	t.Helper()
	eventually(t, func() error {
		e.conn.readMu.Lock()
		defer e.conn.readMu.Unlock()
		if e.conn.readState != polled {
			return fmt.Errorf("the connection did not rest by itself, state %d", e.conn.readState)
		}
		return nil
	})
}

// After a ping or a pong a connection rests again at once. What follows a ping in the
// same segment is read before that, also if the TLS layer has read it in advance.
func TestRestsAfterPing(t *testing.T) {
	eachPolledTransport(t, func(t *testing.T, secure bool) {
		r := newRig(t, testConfig(), secure)
		c := r.rawDial()
		e := r.last()
		e.awaitRest(t)
		before := e.conn.LastRead()
		for range 10 {
			c.send(0x89, "")
			c.expect(0x8a, "")
			e.awaitPolled(t)
			e.conn.Ping()
			c.expect(0x89, "")
			c.send(0x8a, "")
			e.awaitPolled(t)
		}
		if !e.conn.LastRead().After(before) {
			t.Error("LastRead does not see what arrives")
		}
		for i := range 100 {
			c.send(0x89, "")
			c.send(0x81, fmt.Sprint(i))
			c.expect(0x8a, "")
			c.expect(0x81, fmt.Sprint(i))
		}
	})
}

// One call of Rest is enough, also for the first connection of a server.
func TestRestOnce(t *testing.T) {
	eachPolledTransport(t, func(t *testing.T, secure bool) {
		r := newRig(t, testConfig(), secure)
		c := r.rawDial()
		e := r.last()
		c.send(0x81, "x") // by then Run runs
		c.expect(0x81, "x")
		time.Sleep(50 * time.Millisecond)
		e.conn.Rest()
		e.awaitPolled(t)
	})
}

// A reader that is inside a message when Rest is called rests after the message.
func TestRestInsideMessage(t *testing.T) {
	eachPolledTransport(t, func(t *testing.T, secure bool) {
		r := newRig(t, testConfig(), secure)
		c := r.rawDial()
		e := r.last()
		c.send(0x01, "ab") // not the last frame
		c.send(0x89, "")
		c.expect(0x8a, "")
		e.conn.Rest()
		c.send(0x80, "c")
		c.expect(0x81, "abc")
		e.awaitPolled(t)
	})
}

// A connection that rests can be closed in both ways, and by the end of Run it gets a
// reader.
func TestRestEnds(t *testing.T) {
	eachPolledTransport(t, func(t *testing.T, secure bool) {
		r := newRig(t, testConfig(), secure)
		ws := r.dial()
		e := r.last()
		e.awaitRest(t)
		closed := make(chan error, 1)
		go func() {
			_, _, err := ws.Read(context.Background())
			closed <- err
		}()
		e.conn.Close(4500, "over")
		if code := websocket.CloseStatus(<-closed); code != 4500 {
			t.Errorf("closed with %d", code)
		}
		e.awaitClosed(t)

		c := r.rawDial()
		e = r.last()
		e.awaitRest(t)
		e.conn.CloseNow()
		e.awaitClosed(t)
		if _, _, err := wiretest.ReadFrame(c); err == nil {
			t.Error("the connection is open after CloseNow")
		}
	})
}

// When Run ends, every connection gets a reader again.
func TestRunEnds(t *testing.T) {
	if !canPoll {
		t.Skip("connections do not rest on this system")
	}
	s := New(testConfig())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	r := &rig{t: t, server: s}
	near, far := tcpPair(t)
	e := r.serve(s.NewConn(near))
	e.awaitRest(t)
	cancel()
	<-done
	eventually(t, func() error {
		e.conn.readMu.Lock()
		defer e.conn.readMu.Unlock()
		if e.conn.readState != waiting {
			return errors.New("the connection has no reader")
		}
		return nil
	})
	c := &rawClient{far, t}
	c.send(0x81, "still there")
	c.expect(0x81, "still there")
	e.conn.CloseNow()
	s.Wait()
}

// tcpPair returns the two ends of a TCP connection.
func tcpPair(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if far, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if near, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	if err := far.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// Connections that rest have no goroutine and no buffer, and all wake up.
func TestManyRest(t *testing.T) {
	eachPolledTransport(t, func(t *testing.T, secure bool) {
		r := newRig(t, testConfig(), secure)
		const n = 100
		var clients []*rawClient
		for range n {
			clients = append(clients, r.rawDial())
		}
		before := runtime.NumGoroutine()
		for _, e := range r.all() {
			e.awaitRest(t)
			if e.conn.batch != nil {
				t.Error("a connection holds a batch")
			}
		}
		eventually(t, func() error {
			if now := runtime.NumGoroutine(); now > before-n {
				return fmt.Errorf("%d goroutines, %d before %d connections rested", now, before, n)
			}
			return nil
		})
		for i, c := range clients {
			c.send(0x81, fmt.Sprint(i))
		}
		for i, c := range clients {
			c.expect(0x81, fmt.Sprint(i))
		}
	})
}

// Resting at any moment loses nothing.
func TestRestWhileReading(t *testing.T) {
	eachPolledTransport(t, func(t *testing.T, secure bool) {
		r := newRig(t, testConfig(), secure)
		c := r.rawDial()
		e := r.last()
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					e.conn.Rest()
					time.Sleep(20 * time.Microsecond)
				}
			}
		}()
		for i := range 300 {
			b := wiretest.Masked(nil, 0x02, fmt.Append(nil, i))
			for _, p := range [][]byte{b[:3], b[3:], wiretest.Masked(nil, 0x80, []byte("!"))} {
				if _, err := c.Write(p); err != nil {
					t.Fatal(err)
				}
			}
			c.expect(0x82, fmt.Sprint(i, "!"))
		}
		close(stop)
		<-done
	})
}
