package wire

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/node/internal/wire/wiretest"
)

// A connection that is not of the operating system works, on a synthetic clock.
func TestPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		s := New(testConfig())
		c := upgradePipe(t, s, near)
		r := &rig{t: t, server: s}
		served := make(chan *echo)
		go func() { served <- r.serve(c) }()
		head := make([]byte, 0, 512)
		for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			head = append(head, 0)
			if _, err := io.ReadFull(far, head[len(head)-1:]); err != nil {
				t.Fatal(err)
			}
		}
		e := <-served
		client := &rawClient{far, t}
		for _, size := range []int{0, 1, 5000, 60000} {
			want := strings.Repeat("x", size)
			go client.send(0x82, want)
			client.expect(0x82, want)
		}
		e.conn.Rest() // does nothing
		go client.send(0x89, "p")
		client.expect(0x8a, "p")
		client.send(0x88, "\x03\xe8")
		client.expect(0x88, "\x03\xe8")
		e.awaitClosed(t)
		s.Wait()
	})
}

// A connection within its rates does not wait. It may be ahead by two seconds' worth,
// and the excess waits as long as the rate says.
func TestRates(t *testing.T) {
	frames := func(first byte, n int) []byte { return bytes.Repeat(wiretest.Masked(nil, first, nil), n) }
	for name, c := range map[string]struct {
		rates  Rates
		input  []byte
		wait   time.Duration
		slowed string
	}{
		"no limit":         {Rates{}, frames(0x82, 10_000), 0, ""},
		"a burst":          {Rates{Messages: 100}, frames(0x82, 200), 0, ""},
		"messages":         {Rates{Messages: 100}, frames(0x82, 250), 500 * time.Millisecond, "messages"},
		"frames":           {Rates{Frames: 100}, frames(0x8a, 300), time.Second, "frames"},
		"pongs":            {Rates{Messages: 1, Pings: 10}, frames(0x8a, 50), 3 * time.Second, "pings"},
		"bytes":            {Rates{Bytes: 1000}, frames(0x82, 1000), 4 * time.Second, "bytes"},
		"fragments":        {Rates{Messages: 1, Frames: 100}, append(append(frames(0x02, 1), frames(0x00, 298)...), frames(0x80, 1)...), time.Second, "frames"},
		"several":          {Rates{Bytes: 700, Messages: 100, Frames: 120}, frames(0x82, 300), time.Second, "messages"},
		"only the slowest": {Rates{Messages: 100, Frames: 1000, Pings: 1}, frames(0x82, 400), 2 * time.Second, "messages"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slowed := map[string]int{}
				var log bytes.Buffer
				cfg := testConfig()
				cfg.Rates, cfg.Logger = c.rates, slog.New(slog.NewTextHandler(&log, nil))
				cfg.Slowed = func(q string) { slowed[q]++ }
				s := New(cfg)
				near, far := net.Pipe()
				h := &recording{closed: make(chan error, 1)}
				s.NewConn(near).Serve(h)
				begin := time.Now()
				if _, err := far.Write(c.input); err != nil {
					t.Fatal(err)
				}
				far.Close()
				<-h.closed
				s.Wait()
				if took := time.Since(begin); took < c.wait || took > c.wait+time.Millisecond {
					t.Errorf("took %v, want %v", took, c.wait)
				}
				if c.slowed == "" && len(slowed) > 0 || c.slowed != "" && (len(slowed) != 1 || slowed[c.slowed] == 0) {
					t.Errorf("slowed by %v, want %q", slowed, c.slowed)
				}
				if reads := (len(c.input) + inputBytes - 1) / inputBytes; slowed[c.slowed] > reads {
					t.Errorf("slowed %d times in %d reads", slowed[c.slowed], reads)
				}
				if n := strings.Count(log.String(), "client sends too much"); n > 1 || (n == 1) != (c.slowed != "") {
					t.Errorf("logged %d warnings", n)
				}
			})
		})
	}
}

// What exceeds a rate waits before it is handled, and not only what comes after it.
func TestRatesBeforeHandling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.Rates = Rates{Messages: 10}
		r := &rig{t: t, server: New(cfg)}
		near, far := net.Pipe()
		e := r.serve(r.server.NewConn(near))
		go func() { _, _ = far.Write(bytes.Repeat(wiretest.Masked(nil, 0x82, nil), 30)) }()
		c := &rawClient{far, t}
		for range 30 {
			c.expect(0x82, "")
		}
		if took := time.Since(start(t)); took != time.Second {
			t.Errorf("all echoes arrived after %v", took)
		}
		far.Close()
		e.awaitClosed(t)
		r.server.Wait()
	})
}

// A connection far over its rate can be closed, in both ways, without a wait for the
// whole excess.
func TestCloseWhileSlowed(t *testing.T) {
	for name, f := range map[string]func(c *Conn){
		"now":    (*Conn).CloseNow,
		"gently": func(c *Conn) { c.Close(4001, "") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := testConfig()
				cfg.Rates = Rates{Messages: 1}
				s := New(cfg)
				near, far := net.Pipe()
				defer far.Close()
				h := &recording{closed: make(chan error, 1)}
				c := s.NewConn(near)
				c.Serve(h)
				if _, err := far.Write(bytes.Repeat(wiretest.Masked(nil, 0x82, nil), 200)); err != nil {
					t.Fatal(err)
				}
				go func() { _, _, _ = wiretest.ReadFrame(far) }()
				time.Sleep(10*time.Second + 1)
				begin := time.Now()
				f(c)
				s.Wait()
				if took := time.Since(begin); took > closeTimeout+maxPause {
					t.Errorf("the reader ended %v after the close", took)
				}
			})
		})
	}
}

// What a connection has spent, and when it was last read, are measured from the start of
// the server: a wall clock that is set back, by an hour say, must not stop a reader for
// that hour.
func TestNoWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.Rates = Rates{Bytes: 100, Messages: 10, Frames: 10}
		s := New(cfg)
		near, far := net.Pipe()
		h := &recording{closed: make(chan error, 1)}
		c := s.NewConn(near)
		c.Serve(h)
		time.Sleep(time.Second)
		if _, err := far.Write(wiretest.Masked(nil, 0x82, nil)); err != nil {
			t.Fatal(err)
		}
		far.Close()
		<-h.closed
		s.Wait()
		for q, spent := range c.spent {
			if d := time.Duration(spent); d > 2*time.Second {
				t.Errorf("%v: spent until %v after the start", quantity(q), d)
			}
		}
		if got := c.LastRead().Sub(s.started); got != time.Second {
			t.Errorf("last read %v after the start", got)
		}
	})
}

// At its rate a connection never waits, whatever it did before.
func TestAtTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.Rates = Rates{Messages: 100}
		cfg.Slowed = func(string) { t.Error("slowed") }
		s := New(cfg)
		near, far := net.Pipe()
		h := &recording{closed: make(chan error, 1)}
		s.NewConn(near).Serve(h)
		for i := range 1000 {
			if i == 500 {
				time.Sleep(time.Hour)
			}
			if _, err := far.Write(wiretest.Masked(nil, 0x82, nil)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		far.Close()
		<-h.closed
		s.Wait()
		if len(h.messages) != 1000 {
			t.Errorf("%d messages", len(h.messages))
		}
	})
}

// A message of too many fragments is counted by the caller.
func TestFragments(t *testing.T) {
	n := 0
	cfg := testConfig()
	cfg.Fragments = func() { n++ }
	s := New(cfg)
	conn := &script{in: append(wiretest.Masked(nil, 0x02, nil), bytes.Repeat(wiretest.Masked(nil, 0, nil), maxFragments)...), step: 1000, end: io.EOF}
	h := &recording{closed: make(chan error, 1)}
	s.NewConn(conn).Serve(h)
	s.Wait()
	var violation *ProtocolError
	if err := <-h.closed; n != 1 || fmt.Sprintf("%T", err) != fmt.Sprintf("%T", violation) {
		t.Errorf("counted %d, closed with %v", n, err)
	}
}

// CheckRequest accepts one version, one key of 16 bytes, and no body.
func TestCheckRequest(t *testing.T) {
	const key = "AAAAAAAAAAAAAAAAAAAAAA=="
	for name, change := range map[string]func(*http.Request){
		"":                     func(*http.Request) {},
		`is [], must be 13`:    func(r *http.Request) { r.Header.Del("Sec-WebSocket-Version") },
		`["8"], must be 13`:    func(r *http.Request) { r.Header.Set("Sec-WebSocket-Version", "8") },
		`["13" "8"], must`:     func(r *http.Request) { r.Header.Add("Sec-WebSocket-Version", "8") },
		"0 headers Sec-WebS":   func(r *http.Request) { r.Header.Del("Sec-WebSocket-Key") },
		"2 headers Sec-WebS":   func(r *http.Request) { r.Header.Add("Sec-WebSocket-Key", key) },
		`is "AAAA", must be`:   func(r *http.Request) { r.Header.Set("Sec-WebSocket-Key", "AAAA") },
		`is "?", must be 16`:   func(r *http.Request) { r.Header.Set("Sec-WebSocket-Key", "?") },
		"handshake has a body": func(r *http.Request) { r.ContentLength = 20 },
		"shake has a body":     func(r *http.Request) { r.ContentLength, r.TransferEncoding = -1, []string{"chunked"} },
	} {
		req := handshake()
		req.Header.Set("Sec-WebSocket-Version", "13")
		req.Header.Set("Sec-WebSocket-Key", key)
		change(req)
		switch err := CheckRequest(req); {
		case (err == nil) != (name == ""):
			t.Errorf("%q: %v", name, err)
		case err != nil && !strings.Contains(err.Error(), name):
			t.Errorf("got %q, want %q", err, name)
		}
	}
}

// A connection that cannot be taken over is answered with 501.
func TestUpgradeWithoutHijack(t *testing.T) {
	w := httptest.NewRecorder()
	if _, err := New(testConfig()).Upgrade(w, handshake(), ""); err == nil || w.Code != http.StatusNotImplemented {
		t.Errorf("answered %d, error %v", w.Code, err)
	}
}

// The answer has the headers of the caller, and leaves with the first message.
func TestAnswer(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	s := New(testConfig())
	req := handshake()
	req.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==") // the example of RFC 6455
	c, err := s.Upgrade(hijacked{near, http.Header{"X-Node": {"n1"}}}, req, "usher.v1")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		c.Begin(true)
		c.Append(true, []byte("welcome"), true)
		_, err := c.Flush(true)
		c.CloseNow()
		done <- err
	}()
	b := make([]byte, 4096)
	n, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	want := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" +
		"Sec-WebSocket-Protocol: usher.v1\r\nUpgrade: websocket\r\nX-Node: n1\r\n\r\n\x81\x07welcome"
	if got := string(b[:n]); strings.ReplaceAll(got, "Sec-Websocket", "Sec-WebSocket") != want {
		t.Errorf("the first segment is %q", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Whatever is appended, and however it is flushed, arrives in order and unchanged.
func TestWrites(t *testing.T) {
	r := newRig(t, testConfig(), false)
	c := r.rawDial()
	e := r.last()
	rapid.Check(t, func(rt *rapid.T) {
		sizes := rapid.SliceOfN(rapid.SampledFrom([]int{0, 1, 125, 126, 1000, 4085, 4086, 4087, 4096, 5000, 70000}), 1, 8).Draw(rt, "sizes")
		wait := rapid.Bool().Draw(rt, "wait")
		ping := rapid.IntRange(-1, len(sizes)-1).Draw(rt, "ping")
		done := make(chan error, 1)
		go func() {
			for !e.conn.Begin(wait) {
				continue
			}
			for i, size := range sizes {
				e.conn.Append(i%2 == 0, bytes.Repeat([]byte{byte(i)}, size), wait)
				if i == ping {
					e.conn.Ping()
				}
			}
			all, err := e.conn.Flush(wait)
			if !all && err == nil {
				_, err = e.conn.Flush(true)
			}
			done <- err
		}()
		for i, size := range sizes {
			c.expect(map[bool]byte{true: 0x81, false: 0x82}[i%2 == 0], strings.Repeat(string([]byte{byte(i)}), size))
			if i == ping {
				c.expect(0x89, "")
			}
		}
		if err := <-done; err != nil {
			rt.Fatal(err)
		}
	})
}
