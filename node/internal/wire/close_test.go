package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/node/internal/wire/wiretest"
)

// The client closes: its close frame is answered, and the connection closed.
func TestClientCloses(t *testing.T) {
	eachTransport(t, func(t *testing.T, secure bool) {
		r := newRig(t, testConfig(), secure)
		ws := r.dial()
		if err := ws.Close(3456, "bye"); err != nil {
			t.Error(err)
		}
		var said *CloseError
		if err := r.last().awaitClosed(t); !errors.As(err, &said) || *said != (CloseError{3456, "bye"}) {
			t.Errorf("closed with %v", err)
		}
	})
}

// The server closes: the client gets code and reason after what was gathered, and Close
// ends when the client has answered. Close may be called often and at the same time.
func TestServerCloses(t *testing.T) {
	eachTransport(t, func(t *testing.T, secure bool) {
		r := newRig(t, testConfig(), secure)
		ws := r.dial()
		e := r.last()
		e.conn.Begin(true)
		e.conn.Append(true, []byte("last words"), true)
		var wg sync.WaitGroup
		start := time.Now()
		for range 3 {
			wg.Go(func() { e.conn.Close(4001, strings.Repeat("é", 100)) })
		}
		if _, b, err := ws.Read(context.Background()); err != nil || string(b) != "last words" {
			t.Errorf("got %q, %v", b, err)
		}
		var said websocket.CloseError
		if _, _, err := ws.Read(context.Background()); !errors.As(err, &said) || said.Code != 4001 || said.Reason != strings.Repeat("é", 61) {
			t.Errorf("the client sees %v", err)
		}
		wg.Wait()
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("closing took %v", took)
		}
		e.awaitClosed(t)
		if all, err := e.conn.Flush(true); !all || !errors.Is(err, net.ErrClosed) {
			t.Errorf("Flush after Close: %v, %v", all, err)
		}
		e.conn.Close(4001, "")
		e.conn.CloseNow()
	})
}

// The client sends on while the server closes: that is discarded.
func TestDiscardsWhileClosing(t *testing.T) {
	eachTransport(t, func(t *testing.T, secure bool) {
		r := newRig(t, testConfig(), secure)
		c := r.rawDial()
		e := r.last()
		done := make(chan struct{})
		go func() {
			defer close(done)
			e.conn.Close(4001, "")
		}()
		c.expect(0x88, "\x0f\xa1")
		big := wiretest.Masked(nil, 0x82, bytes.Repeat([]byte("x"), 60_000))
		for range 20 {
			if _, err := c.Write(append(big, wiretest.Masked(nil, 0x89, []byte("?"))...)); err != nil {
				t.Fatal(err)
			}
		}
		c.send(0x88, "\x0f\xa1")
		<-done
		if b, err := io.ReadAll(c); len(b) > 0 {
			t.Errorf("got %q, %v after the close frame", b, err)
		}
		e.awaitClosed(t)
	})
}

// A connection that was never served can be closed, and one that was closed gets Closed
// when it is served.
func TestCloseUnserved(t *testing.T) {
	s := New(testConfig())
	near, far := tcpPair(t)
	e := &echo{conn: s.NewConn(near), closed: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.conn.Close(4001, "full")
	}()
	c := &rawClient{far, t}
	c.expect(0x88, "\x0f\xa1full")
	c.send(0x81, "what?")
	c.send(0x88, "\x0f\xa1")
	<-done
	e.conn.Serve(e)
	e.awaitClosed(t)
	s.Wait()

	near, _ = tcpPair(t)
	e = &echo{conn: s.NewConn(near), closed: make(chan struct{})}
	e.conn.CloseNow()
	e.conn.Serve(e)
	e.awaitClosed(t)
	s.Wait()
}

// After a protocol error the client can read the code, although it has sent more than
// was read.
func TestProtocolErrorArrives(t *testing.T) {
	eachTransport(t, func(t *testing.T, secure bool) {
		r := newRig(t, testConfig(), secure)
		for range 20 {
			c := r.rawDial()
			_, _ = c.Write(append(wiretest.Masked(nil, 0x83, nil), make([]byte, 30<<10)...))
			if op, p := c.frame(); op != 0x88 || string(p[:2]) != "\x03\xea" {
				t.Fatalf("got frame %#x %q", op, p)
			}
			if _, err := io.ReadAll(c); err != nil {
				t.Fatalf("the connection ends with %v", err)
			}
			var e *ProtocolError
			if err := r.last().awaitClosed(t); !errors.As(err, &e) || e.Code != 1002 {
				t.Fatalf("closed with %v", err)
			}
			c.Close()
		}
	})
}

// Closed does not wait for a client that does not read the close frame, and the client
// gets all of the frame although the handler calls CloseNow.
func TestProtocolErrorIsReportedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		r := &rig{t: t, server: New(testConfig())}
		e := r.serve(r.server.NewConn(near))
		c := rawClient{far, t}
		c.send(0x83, "")
		e.awaitClosed(t)
		if took := time.Since(start(t)); took != 0 {
			t.Errorf("Closed was called after %v", took)
		}
		time.Sleep(closeTimeout / 2)
		if op, p := c.frame(); op != 0x88 || string(p[:2]) != "\x03\xea" {
			t.Errorf("got frame %#x %q", op, p)
		}
		r.server.Wait()
	})
}

// What ends after a time ends after that time, over connections that are not of the
// operating system.
func TestTimeouts(t *testing.T) {
	for name, f := range map[string]func(t *testing.T, e *echo, c *rawClient){
		"the client does not answer the close frame": func(t *testing.T, e *echo, c *rawClient) {
			go c.frame()
			e.conn.Close(4001, "")
			synctest.Wait()
			if took := time.Since(start(t)); took != closeTimeout {
				t.Errorf("Close took %v", took)
			}
		},
		"the client does not read the close frame": func(t *testing.T, e *echo, _ *rawClient) {
			e.conn.Close(4001, "")
			if took := time.Since(start(t)); took != closeTimeout {
				t.Errorf("Close took %v", took)
			}
		},
		"the client does not read": func(t *testing.T, e *echo, _ *rawClient) {
			e.conn.Begin(true)
			e.conn.Append(true, make([]byte, 100), true)
			if all, err := e.conn.Flush(false); all || err != nil {
				t.Errorf("Flush without waiting: %v, %v", all, err)
			}
			if _, err := e.conn.Flush(true); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Flush: %v", err)
			}
			if took := time.Since(start(t)); took != 10*time.Second {
				t.Errorf("Flush took %v", took)
			}
			e.conn.CloseNow()
		},
		"the client does not read a ping": func(t *testing.T, e *echo, _ *rawClient) {
			e.conn.Ping()
			e.conn.Ping()
			if took := time.Since(start(t)); took != 0 {
				t.Errorf("Ping waited %v", took)
			}
			time.Sleep(11 * time.Second)
			if _, err := e.conn.Flush(true); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Flush after the ping: %v", err)
			}
			e.conn.CloseNow()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer far.Close()
				r := &rig{t: t, server: New(testConfig())}
				e := r.serve(r.server.NewConn(near))
				f(t, e, &rawClient{far, t})
				e.awaitClosed(t)
				r.server.Wait()
			})
		})
	}
}

// start returns when the synthetic clock of a test began.
func start(t testing.TB) time.Time {
	t.Helper()
	return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
}

// A close frame has a code that it may have, and a reason that fits.
func TestClosePayload(t *testing.T) {
	for _, c := range []struct {
		code   uint16
		reason string
		want   string
	}{
		{1000, "", "\x03\xe8"},
		{4999, "bye", "\x13\x87bye"},
		{1005, "never sent", ""},
		{0, "x", "\x03\xf3x"},
		{1006, "x", "\x03\xf3x"},
		{2999, "x", "\x03\xf3x"},
		{1000, strings.Repeat("x", 123), "\x03\xe8" + strings.Repeat("x", 123)},
		{1000, strings.Repeat("x", 124), "\x03\xe8" + strings.Repeat("x", 123)},
		{1000, strings.Repeat("\xbf", 200), "\x03\xe8"}, // no letter begins anywhere
	} {
		if got := string(closePayload(c.code, c.reason)); got != c.want {
			t.Errorf("%d %q: %q, want %q", c.code, c.reason, got, c.want)
		}
	}
}
