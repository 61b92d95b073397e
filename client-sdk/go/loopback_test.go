package usher_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// loopNode is an auth and a node for one session that use real sockets. Its
// application sends the number of messages that the test sets, and keeps the messages
// that it receives.
type loopNode struct {
	auth, web *httptest.Server
	serving   sync.WaitGroup

	mu           sync.Mutex
	stream       *stream.Stream
	conn         *loopConn // that has the session; nil while detached
	attempt      uint64
	confirmed    uint64 // the highest count that the client has sent
	total        int    // messages to send
	sent         int
	got          []string // reliable
	loseWelcomes int      // number of welcomes that will be lost
	faults       []string // of the client
}

// loopConn is one connection of a loopNode. It is protected by loopNode.mu.
type loopConn struct {
	ws    *websocket.Conn
	net   net.Conn
	wake  chan struct{}
	next  uint64 // number of the next reliable frame to write
	queue [][]byte
}

const loopStream = "the-stream"

var loopLimits = stream.Limits{Messages: 16, Bytes: 8192}

type netConnKey struct{}

func newLoopNode() *loopNode {
	n := &loopNode{stream: &stream.Stream{Limits: loopLimits}}
	n.auth = httptest.NewServer(http.HandlerFunc(n.assign))
	n.web = httptest.NewUnstartedServer(http.HandlerFunc(n.connect))
	n.web.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, netConnKey{}, c)
	}
	n.web.Listener = eofListener{n.web.Listener}
	n.web.Start()
	return n
}

// eofListener keeps the WebSocket library from mistaking the end of a connection for
// the end of a message, as detectTruncation does in the client.
type eofListener struct{ net.Listener }

func (l eofListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return eofConn{c}, err
}

type eofConn struct{ net.Conn }

func (c eofConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (n *loopNode) stop() {
	n.auth.Close()
	n.web.Close()
	n.serving.Wait()
}

func (n *loopNode) assign(w http.ResponseWriter, _ *http.Request) {
	_ = json.NewEncoder(w).Encode(proto.Assignment{
		Token: "token", TokenExpiresAt: time.Now().Add(time.Hour), Session: "sid", User: "ada",
		Node: proto.NodeAddress{ID: "n", URL: "ws" + strings.TrimPrefix(n.web.URL, "http") + proto.ConnectPath},
	})
}

// fault records a fault of the client. n.mu is held.
func (n *loopNode) fault(format string, args ...any) {
	n.faults = append(n.faults, fmt.Sprintf(format, args...))
}

func (n *loopNode) connect(w http.ResponseWriter, r *http.Request) {
	n.serving.Add(1)
	defer n.serving.Done()
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{proto.Subprotocol}})
	if err != nil {
		return
	}
	ws.SetReadLimit(1 << 20)
	c := &loopConn{ws: ws, net: r.Context().Value(netConnKey{}).(net.Conn), wake: make(chan struct{}, 1)}
	welcome, code := n.attach(c, r)
	switch {
	case code != 0:
		n.close(c, code)
	case welcome == nil: // the welcome is lost
		_ = ws.CloseNow()
	default:
		n.mu.Lock()
		c.queue = append([][]byte{welcome}, c.queue...)
		n.mu.Unlock()
		gone := make(chan struct{})
		n.serving.Go(func() { n.write(c, gone) })
		n.read(c)
		close(gone)
		_ = ws.CloseNow()
	}
}

// attach gives the session to the connection.
func (n *loopNode) attach(c *loopConn, r *http.Request) ([]byte, proto.CloseCode) {
	q := r.URL.Query()
	attempt, err := strconv.ParseUint(q.Get(proto.QueryAttempt), 10, 64)
	received, err2 := strconv.ParseUint(q.Get(proto.QueryReceived), 10, 64)
	named := q.Get(proto.QueryStream) != ""
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case err != nil || named && (err2 != nil || q.Get(proto.QueryStream) != loopStream) || !named && n.confirmed+n.stream.Received() > 0:
		n.fault("sent the handshake %v", q)
		return nil, proto.CloseProtocolError
	case attempt < n.attempt:
		return nil, proto.CloseReplaced
	case received < n.confirmed || n.stream.Ack(received) != nil:
		n.fault("sent received %d, must be %d to %d", received, n.confirmed, n.stream.Sent())
		return nil, proto.CloseProtocolError
	}
	old := n.conn
	n.conn, n.attempt, n.confirmed, c.next = c, attempt, received, received+1
	n.stream.Resumed()
	n.fill()
	if old != nil {
		n.serving.Go(func() { n.close(old, proto.CloseReplaced) })
	}
	if n.loseWelcomes > 0 {
		n.loseWelcomes--
		return nil, 0
	}
	return proto.AppendControl(nil, proto.Control{Type: proto.TypeWelcome, Welcome: proto.Welcome{
		Session: "sid", Stream: loopStream, Node: "n", Resumed: named, Received: n.stream.Received(),
		PingIntervalMS: 50, ResumeWindowMS: 60000, MaxMessageBytes: 4096, MaxUnackedBytes: loopLimits.Bytes,
		MaxUnackedMessages: loopLimits.Messages, TokenExpiresAt: time.Now().Add(time.Hour),
	}}), 0
}

// close closes with a code, and waits at most 50 ms for the answer.
func (n *loopNode) close(c *loopConn, code proto.CloseCode) {
	defer time.AfterFunc(50*time.Millisecond, func() { _ = c.net.Close() }).Stop()
	_ = c.ws.Close(websocket.StatusCode(code), code.String())
}

// fill sends messages until the stream is full or all are sent. n.mu is held.
func (n *loopNode) fill() {
	var err error
	for n.sent < n.total && err == nil {
		if _, err = n.stream.Send(proto.AppendMessage(nil, proto.Message{Data: numbered("n", n.sent+1), Text: true})); err == nil {
			n.sent++
		}
	}
	if n.conn != nil {
		n.conn.wakeWriter()
	}
}

func (c *loopConn) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// numbered returns a message with the number i. Its length depends on i; some messages
// are longer than the piece that is read at once.
func numbered(who string, i int) []byte {
	return fmt.Appendf(nil, "%s%d %s", who, i, strings.Repeat(".", i*i*37%1500*(i%3)))
}

func number(who string, m []byte) (int, bool) {
	digits, _, _ := strings.Cut(strings.TrimPrefix(string(m), who), " ")
	i, err := strconv.Atoi(digits)
	return i, err == nil && string(numbered(who, i)) == string(m)
}

// send makes the application send more messages.
func (n *loopNode) send(more int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.total += more
	n.fill()
}

// control queues a control.
func (n *loopNode) control(c proto.Control) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn != nil {
		n.conn.queue = append(n.conn.queue, proto.AppendControl(nil, c))
		n.conn.wakeWriter()
	}
}

// end ends the connection with the code, or without one if it is 0.
func (n *loopNode) end(code proto.CloseCode) {
	n.mu.Lock()
	c := n.conn
	n.conn = nil
	n.mu.Unlock()
	switch {
	case c == nil:
	case code == 0:
		_ = c.net.Close()
	default:
		n.close(c, code)
	}
}

func (n *loopNode) write(c *loopConn, gone chan struct{}) {
	for {
		typ, b := n.next(c)
		if b == nil {
			select {
			case <-c.wake:
				continue
			case <-gone:
				return
			}
		}
		if c.ws.Write(context.Background(), typ, b) != nil {
			return
		}
	}
}

// next returns the next WebSocket message to write, or nil.
func (n *loopNode) next(c *loopConn) (websocket.MessageType, []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(c.queue) > 0 {
		b := c.queue[0]
		c.queue = c.queue[1:]
		return websocket.MessageText, b
	}
	if n.conn != c {
		return 0, nil
	}
	if b := n.stream.Frame(c.next); b != nil {
		c.next++
		return websocket.MessageBinary, b
	}
	if pending, _ := n.stream.AckDue(); pending {
		return websocket.MessageText, proto.AppendControl(nil, proto.Control{Type: proto.TypeAck, Received: n.stream.TakeAck()})
	}
	return 0, nil
}

func (n *loopNode) read(c *loopConn) {
	for {
		typ, b, err := c.ws.Read(context.Background())
		if err != nil || !n.process(c, typ, b) {
			return
		}
	}
}

// process acts on a WebSocket message of the client. It returns false if the
// connection no longer has the session.
func (n *loopNode) process(c *loopConn, typ websocket.MessageType, b []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn != c {
		return false
	}
	if typ == websocket.MessageBinary {
		n.message(b)
		c.wakeWriter() // to acknowledge
		return true
	}
	ctl, err := proto.ParseControl(b)
	switch {
	case err != nil:
		n.fault("%v", err)
	case ctl.Type == proto.TypePing:
		c.queue = append(c.queue, proto.AppendControl(nil, proto.Control{Type: proto.TypePong, ID: ctl.ID}))
		c.wakeWriter()
	case ctl.Type == proto.TypeAck:
		if ctl.Received >= c.next || ctl.Received < n.confirmed || n.stream.Ack(ctl.Received) != nil {
			n.fault("acknowledges %d, must be %d to %d", ctl.Received, n.confirmed, c.next-1)
		}
		n.confirmed = max(n.confirmed, ctl.Received)
		n.fill()
	}
	return true
}

// message delivers a message to the application. n.mu is held.
func (n *loopNode) message(b []byte) {
	m, err := proto.ParseMessage(b)
	switch {
	case err != nil:
		n.fault("%v", err)
	case m.Volatile:
		// It was sent between the reliable message with its number and the next.
		if i, ok := number("v", m.Data); !ok || i != len(n.got) {
			n.fault("sent the volatile %.20q after %d", m.Data, len(n.got))
		}
	default:
		n.stream.Receive()
		n.stream.Handled(len(m.Data))
		n.got = append(n.got, string(m.Data))
	}
}
