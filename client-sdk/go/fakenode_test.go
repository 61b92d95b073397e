package usher

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// fakeNode hands each handshake to the test.
type fakeNode struct {
	cluster  *cluster
	id       string
	attempts chan *attempt

	mu    sync.Mutex
	peers []*peer
}

type attempt struct {
	node   *fakeNode
	w      http.ResponseWriter
	r      *http.Request
	query  url.Values
	at     time.Duration
	served chan struct{}
}

func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &attempt{node: n, w: w, r: r, query: r.URL.Query(), at: n.cluster.since(), served: make(chan struct{})}
	n.attempts <- a
	select {
	case <-a.served:
	case <-r.Context().Done():
	}
}

// next waits for a handshake.
func (n *fakeNode) next() *attempt { return <-n.attempts }

// none checks that no handshake comes within d.
func (n *fakeNode) none(d time.Duration) {
	n.cluster.t.Helper()
	select {
	case a := <-n.attempts:
		n.cluster.t.Fatalf("unexpected attempt at %s after %v: %v", n.id, a.at, a.query)
	case <-time.After(d):
	}
}

func (n *fakeNode) drop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.peers {
		_ = p.ws.CloseNow()
	}
}

// names checks the stream and the count of the attempt.
func (a *attempt) names(stream, received string) *attempt {
	a.node.cluster.t.Helper()
	if a.query.Get("stream") != stream || a.query.Get("received") != received {
		a.node.cluster.t.Fatalf("the handshake has %v, want stream %q, received %q", a.query, stream, received)
	}
	return a
}

// problem answers with an HTTP error.
func (a *attempt) problem(status int, code string) {
	proto.WriteProblem(a.w, &proto.Problem{Status: status, Code: code})
	close(a.served)
}

// accept upgrades the connection.
func (a *attempt) accept() *peer {
	a.node.cluster.t.Helper()
	ws, err := websocket.Accept(a.w, a.r, &websocket.AcceptOptions{Subprotocols: []string{proto.Subprotocol}})
	if err != nil {
		a.node.cluster.t.Fatalf("accept: %v", err)
	}
	ws.SetReadLimit(-1)
	p := &peer{t: a.node.cluster.t, node: a.node, ws: ws, attempt: a, wire: a.node.cluster.net.to(a.node.id + ":80")}
	a.node.mu.Lock()
	a.node.peers = append(a.node.peers, p)
	a.node.mu.Unlock()
	close(a.served)
	return p
}

// close upgrades the connection and closes it.
func (a *attempt) close(code proto.CloseCode) { a.accept().close(code) }

// peer is the node's end of a connection, controlled by a test.
type peer struct {
	t       *testing.T
	node    *fakeNode
	ws      *websocket.Conn
	wire    *wire
	attempt *attempt
}

// welcome sends a welcome with the stream s1, not resumed, after change has changed
// it.
func (p *peer) welcome(change func(*proto.Welcome)) {
	p.t.Helper()
	w := proto.Welcome{
		Session: "sid", Stream: "s1", Node: p.node.id, PingIntervalMS: 3600_000, ResumeWindowMS: 60000,
		MaxMessageBytes: 100, MaxUnackedBytes: 400, MaxUnackedMessages: 8, TokenExpiresAt: time.Now().Add(time.Hour),
	}
	if change != nil {
		change(&w)
	}
	p.control(proto.Control{Type: proto.TypeWelcome, Welcome: w})
}

// resume sends a welcome that resumes the stream.
func (p *peer) resume(received uint64) {
	p.t.Helper()
	p.welcome(func(w *proto.Welcome) { w.Resumed, w.Received = true, received })
}

func (p *peer) write(typ websocket.MessageType, b []byte) {
	p.t.Helper()
	if err := p.ws.Write(context.Background(), typ, b); err != nil {
		p.t.Fatalf("the node cannot write: %v", err)
	}
}

func (p *peer) control(c proto.Control) {
	p.t.Helper()
	p.write(websocket.MessageText, proto.AppendControl(nil, c))
}

func (p *peer) text(b string) { p.t.Helper(); p.write(websocket.MessageText, []byte(b)) }

func (p *peer) ack(n uint64) {
	p.t.Helper()
	p.control(proto.Control{Type: proto.TypeAck, Received: n})
}

// send sends reliable text messages.
func (p *peer) send(list ...string) {
	p.t.Helper()
	for _, m := range list {
		p.write(websocket.MessageBinary, proto.AppendMessage(nil, Message{Data: []byte(m), Text: true}))
	}
}

func (p *peer) sendVolatile(m string) {
	p.t.Helper()
	p.write(websocket.MessageBinary, proto.AppendMessage(nil, Message{Data: []byte(m), Text: true, Volatile: true}))
}

// close closes with the code, in the background, because the client answers only
// when it reads.
func (p *peer) close(code proto.CloseCode) {
	go func() { _ = p.ws.Close(websocket.StatusCode(code), code.String()) }()
}

// read returns the next WebSocket message of the client.
func (p *peer) read() (websocket.MessageType, []byte) {
	p.t.Helper()
	typ, b, err := p.ws.Read(context.Background())
	if err != nil {
		p.t.Fatalf("the node cannot read: %v", err)
	}
	return typ, b
}

// want reads messages of the client and checks them. It skips controls.
func (p *peer) want(list ...string) {
	p.t.Helper()
	for _, want := range list {
		typ, b := p.read()
		for typ == websocket.MessageText {
			typ, b = p.read()
		}
		if m, err := proto.ParseMessage(b); err != nil || string(m.Data) != want {
			p.t.Fatalf("the client sent %q (%v), want %q", b, err, want)
		}
	}
}

// wantControl reads a control of the client.
func (p *peer) wantControl(want string) {
	p.t.Helper()
	if typ, b := p.read(); typ != websocket.MessageText || string(b) != want {
		p.t.Fatalf("the client sent %q, want the control %s", b, want)
	}
}

// wantClose reads until the client has closed, and checks the code; 0 for a
// connection that ended without a code.
func (p *peer) wantClose(code proto.CloseCode) {
	p.t.Helper()
	for {
		_, _, err := p.ws.Read(context.Background())
		if err == nil {
			continue
		}
		if got := proto.CloseCode(max(websocket.CloseStatus(err), 0)); got != code {
			p.t.Fatalf("the client closed with %v, want %d", err, code)
		}
		return
	}
}

// silent checks that the client sends nothing within d. The connection cannot be used
// afterwards.
func (p *peer) silent(d time.Duration) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if typ, b, err := p.ws.Read(ctx); err == nil {
		p.t.Fatalf("the client sent %v %q", typ, b)
	}
}

// receive receives messages from the session and checks them.
func receive(t *testing.T, s *Session, list ...string) {
	t.Helper()
	for _, want := range list {
		m, err := s.Receive(context.Background())
		if err != nil || string(m.Data) != want {
			t.Fatalf("received %q, %v; want %q", m.Data, err, want)
		}
	}
}

func send(t *testing.T, s *Session, list ...string) {
	t.Helper()
	for _, m := range list {
		if err := s.SendText(context.Background(), m); err != nil {
			t.Fatalf("send %q: %v", m, err)
		}
	}
}

func payloads(list []Message) []string {
	var texts []string
	for _, m := range list {
		texts = append(texts, string(m.Data))
	}
	return texts
}
