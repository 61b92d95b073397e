package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/usher-broker/usher/node/internal/wire/wiretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Limits of the connections in tests.
const (
	testMaxText   = 4 << 10
	testMaxBinary = 64<<10 + 1
)

func testConfig() Config {
	return Config{
		WriteTimeout: 10 * time.Second,
		MaxText:      testMaxText,
		MaxBinary:    testMaxBinary,
	}
}

// rig is a Server behind HTTP, whose handlers send back every message.
type rig struct {
	t      testing.TB
	server *Server
	http   *httptest.Server

	mu    sync.Mutex
	conns []*echo
}

// newRig starts a rig. All its connections and goroutines have ended when the test
// ends.
func newRig(t testing.TB, cfg Config, secure bool) *rig {
	t.Helper()
	r := &rig{t: t, server: New(cfg)}
	r.http = httptest.NewUnstartedServer(http.HandlerFunc(r.accept))
	if secure {
		r.http.StartTLS()
	} else {
		r.http.Start()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.server.Run(ctx)
	}()
	t.Cleanup(func() {
		r.http.Close()
		for _, e := range r.all() {
			e.conn.CloseNow()
		}
		r.server.Wait()
		cancel()
		<-done
		r.http.Client().CloseIdleConnections()
	})
	return r
}

func (r *rig) accept(w http.ResponseWriter, req *http.Request) {
	c, err := r.server.Upgrade(w, req, req.Header.Get("Sec-WebSocket-Protocol"))
	if err != nil {
		return
	}
	r.serve(c)
}

func (r *rig) serve(c *Conn) *echo {
	e := &echo{conn: c, closed: make(chan struct{})}
	r.mu.Lock()
	r.conns = append(r.conns, e) // before the client has the answer
	r.mu.Unlock()
	if _, err := c.Flush(true); err != nil {
		r.t.Error(err)
	}
	c.Serve(e)
	return e
}

func (r *rig) all() []*echo {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*echo(nil), r.conns...)
}

// last returns the newest connection.
func (r *rig) last() *echo {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.conns) == 0 {
		r.t.Fatal("no connection was made")
	}
	return r.conns[len(r.conns)-1]
}

// dial connects with the WebSocket library.
func (r *rig) dial() *websocket.Conn {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, r.http.URL, &websocket.DialOptions{HTTPClient: r.http.Client()})
	if err != nil {
		r.t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	r.t.Cleanup(func() { ws.CloseNow() })
	return ws
}

// echo sends back every message. Like a node, it closes the connection with 4004 after a
// message that is too large, and with 4000 after an error of its own.
type echo struct {
	conn   *Conn
	closed chan struct{} // closed by Closed
	err    error         // of Closed

	calls    sync.Mutex // locked during a call; never waited for
	finished bool
}

// errRefused is what echo answers to the text "refuse".
var errRefused = errors.New("refused")

func (e *echo) Message(text bool, b []byte) error {
	if !e.calls.TryLock() || e.finished {
		panic("a call at a wrong time")
	}
	defer e.calls.Unlock()
	if text && string(b) == "refuse" {
		return errRefused
	}
	if !e.conn.Begin(true) {
		panic("Begin(true) did not begin")
	}
	e.conn.Append(text, b, true)
	_, err := e.conn.Flush(true)
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

func (e *echo) Closed(err error) {
	if !e.calls.TryLock() || e.finished {
		panic("a call at a wrong time")
	}
	defer e.calls.Unlock()
	e.finished, e.err = true, err
	close(e.closed)
	switch {
	case err == ErrTooLarge:
		e.conn.Close(4004, "too large")
	case err == errRefused:
		e.conn.Close(4000, "refused")
	default:
		e.conn.CloseNow()
	}
}

// awaitClosed returns the error of Closed.
func (e *echo) awaitClosed(t testing.TB) error {
	t.Helper()
	select {
	case <-e.closed:
		return e.err
	case <-time.After(20 * time.Second):
		t.Fatal("Closed was not called")
		return nil
	}
}

// eventually repeats f until it returns nil.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// rawClient reads and writes frames byte by byte, to split them where no library would.
type rawClient struct {
	net.Conn
	t testing.TB
}

// rawDial connects without a library.
func (r *rig) rawDial() *rawClient {
	r.t.Helper()
	var conn net.Conn
	var err error
	if r.http.TLS != nil {
		conn, err = tls.Dial("tcp", r.http.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	} else {
		conn, err = net.Dial("tcp", r.http.Listener.Addr().String())
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return rawHandshake(r.t, conn)
}

func rawHandshake(t testing.TB, conn net.Conn) *rawClient {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	head := make([]byte, 0, 512)
	for !strings.HasSuffix(string(head), "\r\n\r\n") {
		head = append(head, 0)
		if _, err := io.ReadFull(conn, head[len(head)-1:]); err != nil {
			t.Fatalf("%v after %q", err, head)
		}
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 101 ") {
		t.Fatalf("answered %q", head)
	}
	return &rawClient{conn, t}
}

// frame reads one frame.
func (c *rawClient) frame() (first byte, payload []byte) {
	c.t.Helper()
	first, payload, err := wiretest.ReadFrame(c)
	if err != nil {
		c.t.Fatalf("reading a frame: %v", err)
	}
	return first, payload
}

// send writes a frame.
func (c *rawClient) send(first byte, payload string) {
	c.t.Helper()
	if _, err := c.Write(wiretest.Masked(nil, first, []byte(payload))); err != nil {
		c.t.Fatal(err)
	}
}

// expect reads a frame and compares it.
func (c *rawClient) expect(first byte, payload string) {
	c.t.Helper()
	if op, p := c.frame(); op != first || string(p) != payload {
		c.t.Fatalf("got frame %#x %.40q, want %#x %.40q", op, p, first, payload)
	}
}

// hijacked is a ResponseWriter over any net.Conn.
type hijacked struct {
	conn   net.Conn
	header http.Header
}

func (w hijacked) Header() http.Header         { return w.header }
func (w hijacked) Write(b []byte) (int, error) { return w.conn.Write(b) }
func (w hijacked) WriteHeader(int)             {}
func (w hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.conn, bufio.NewReadWriter(bufio.NewReader(w.conn), bufio.NewWriter(w.conn)), nil
}

// handshake is a valid request to upgrade.
func handshake() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
	} {
		r.Header.Set(name, value)
	}
	return r
}

// upgradePipe makes a connection over a net.Conn that is not of the operating system.
// The answer to the handshake is still in its batch.
func upgradePipe(t testing.TB, s *Server, conn net.Conn) *Conn {
	t.Helper()
	c, err := s.Upgrade(hijacked{conn, http.Header{}}, handshake(), "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}
