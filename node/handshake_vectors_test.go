package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/node/internal/wire/wiretest"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/vectors"
)

// TestHandshakeVectors runs every vector of handshakes.json on a real node over a
// real socket.
func TestHandshakeVectors(t *testing.T) {
	for _, v := range vectors.Handshakes() {
		t.Run(v.Name, func(t *testing.T) {
			x := newHandshakeRig(t, v)
			resp, conn := x.request(v)
			o := v.Outcome
			switch {
			case o.Status != 0:
				x.checkProblem(resp, o)
			case resp.StatusCode != http.StatusSwitchingProtocols:
				t.Fatalf("answered %s", resp.Status)
			case o.Close != 0:
				conn.checkClose(o.Close)
			default:
				x.checkWelcome(conn, v)
			}
			x.checkOldConn(v)
		})
	}
}

// handshakeRig is a node in the state that a vector describes.
type handshakeRig struct {
	*rig
	claims proto.Claims
	old    *client // the open connection, if there is one
}

func newHandshakeRig(t *testing.T, v vectors.Handshake) *handshakeRig {
	store := (*unavailableStore)(nil)
	x := &handshakeRig{rig: newRig(t, newCallRecorder(), func(c *Config) {
		store = &unavailableStore{Store: wholeStore(c)}
		c.Store, c.Origins = store, v.Node.Origins
		if v.Node.Full {
			c.MaxSessions = 1
		}
	})}
	if v.Node.Full && !v.Session.Held {
		x.attach(x.login("another-user"), "")
	}
	now := time.Now().Unix()
	x.claims = proto.Claims{
		Issuer: "auth-1", Audience: proto.TokenAudience, User: "ada", Session: session.NewID("ada"), Node: v.Session.Node,
		Epoch: v.Session.Epoch, IssuedAt: now, NotBefore: now, Expires: now + 600, ID: "1",
	}
	if v.Session.Held {
		x.record(v, session.Assigned, "")
		x.setUpSession(v.Session)
	}
	x.record(v, session.State(v.Session.Record), v.Session.Stream)
	x.node.draining.Store(v.Node.Draining)
	store.down.Store(v.Node.Store == "down")
	x.claims.Node, x.claims.Epoch = v.Token.Node, v.Token.Epoch
	if strings.HasSuffix(v.Token.Is, "expired") {
		x.claims.Expires = now - 60
	}
	return x
}

// record creates the record in the store.
func (x *handshakeRig) record(v vectors.Handshake, state session.State, stream string) {
	x.t.Helper()
	if state == "missing" {
		return
	}
	r := session.Record{
		ID: x.claims.Session, User: "ada", Node: v.Session.Node, Epoch: v.Session.Epoch,
		State: state, Stream: stream, Created: time.Now(),
	}
	if state == session.Ended {
		r.State = session.Detached
	}
	ctx := context.Background()
	if err := x.store.Renew(ctx, []session.Record{r}, []time.Duration{time.Minute})[0]; err != nil {
		x.t.Fatal(err)
	}
	if state == session.Ended {
		if _, err := x.store.End(ctx, r.ID, 0, v.Session.Code, "", time.Minute); err != nil {
			x.t.Fatal(err)
		}
	}
}

// setUpSession makes the node hold the session as the vector says: first with
// connections, then by setting counts that would otherwise take many messages.
func (x *handshakeRig) setUpSession(want vectors.HandshakeSession) {
	x.t.Helper()
	if want.Earlier != "" {
		x.attach(x.claims, "")
		x.renameStream(want.Earlier)
	}
	q := url.Values{}
	if want.Client != "" {
		q.Set(proto.QueryClient, want.Client)
	}
	if want.Attempt != nil {
		q.Set(proto.QueryAttempt, fmt.Sprint(*want.Attempt))
	}
	x.old = x.attach(x.claims, q.Encode())
	s := x.renameStream("current")
	s.mu.Lock()
	for range want.Sent {
		if _, err := s.stream.Send(proto.AppendMessage(nil, text("sent"))); err != nil {
			x.t.Fatal(err)
		}
	}
	for s.conn.out.Written() < want.Sent {
		s.conn.out.Next(math.MaxUint64)
	}
	if err := s.stream.Ack(want.Acked); err != nil {
		x.t.Fatal(err)
	}
	for range want.Accepted {
		s.stream.Receive()
		s.stream.Handled(1)
	}
	s.mu.Unlock()
	if want.Attached {
		return
	}
	x.old.ws.CloseNow()
	x.old = nil
	eventually(x.t, func() error {
		if !s.owns(nil) {
			return fmt.Errorf("still attached")
		}
		return nil
	})
	if want.Overflowed {
		s.mu.Lock()
		s.endStream(proto.ResetOverflow)
		s.mu.Unlock()
	}
}

// renameStream gives the stream of the session a name that the vectors use.
func (x *handshakeRig) renameStream(name string) *Session {
	s := x.node.session(x.claims.Session)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.name = name
	return s
}

// request sends the request of the vector byte for byte.
func (x *handshakeRig) request(v vectors.Handshake) (*http.Response, *rawClient) {
	x.t.Helper()
	req := v.Request
	tok := map[string]string{
		"forged": "forged", "forged_expired": "forged", "garbage": "%%%", "empty": "", "too_long": strings.Repeat("a", 4097),
	}
	raw, bad := tok[v.Token.Is]
	if !bad {
		raw = tokenOf(x.claims)
	}
	q := url.Values{}
	for k, val := range req.Query {
		q.Set(k, val)
	}
	protocols := slices.Clone(req.Protocols)
	head := map[string]string{
		"Host": "node", "Upgrade": "websocket", "Connection": "Upgrade",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": base64.StdEncoding.EncodeToString(make([]byte, 16)),
	}
	for _, by := range req.TokenBy {
		switch by {
		case "header":
			head["Authorization"] = "Bearer " + raw
		case "basic":
			head["Authorization"] = "Basic " + raw
		case "subprotocol":
			protocols = append(protocols, proto.TokenSubprotocolPrefix+raw)
		case "query":
			q.Set("token", raw)
		}
	}
	if len(protocols) > 0 {
		head["Sec-WebSocket-Protocol"] = strings.Join(protocols, ", ")
	}
	if req.Origin != "" {
		head["Origin"] = req.Origin
	}
	for _, name := range req.Drop {
		delete(head, name)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s?%s HTTP/%s\r\n", req.Method, proto.ConnectPath, q.Encode(), req.HTTP)
	for k, val := range head {
		fmt.Fprintf(&b, "%s: %s\r\n", k, val)
	}
	b.WriteString("\r\n")

	conn, err := net.Dial("tcp", x.http.Listener.Addr().String())
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		x.t.Fatal(err)
	}
	if _, err := conn.Write(b.Bytes()); err != nil {
		x.t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	return resp, &rawClient{Conn: bufferedConn{conn, in}, t: x.t}
}

// bufferedConn reads the bytes that were read ahead with the response first.
type bufferedConn struct {
	net.Conn
	in *bufio.Reader
}

func (c bufferedConn) Read(p []byte) (int, error) { return c.in.Read(p) }

func (x *handshakeRig) checkProblem(resp *http.Response, o vectors.HandshakeOutcome) {
	x.t.Helper()
	defer resp.Body.Close()
	var p proto.Problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		x.t.Fatalf("%s, and the body: %v", resp.Status, err)
	}
	if resp.StatusCode != o.Status || p.Status != o.Status || p.Code != o.Problem || p.Detail == "" {
		x.t.Errorf("answered %s %+v, want %d %s", resp.Status, p, o.Status, o.Problem)
	}
	if ct := resp.Header.Get("Content-Type"); ct != proto.ProblemContentType {
		x.t.Errorf("content type %s", ct)
	}
}

func (c *rawClient) checkClose(code proto.CloseCode) {
	c.t.Helper()
	op, p := c.frame()
	if op != 0x88 || len(p) < 2 || proto.CloseCode(binary.BigEndian.Uint16(p)) != code {
		c.t.Fatalf("got frame %#x %q, want to be closed with %d", op, p, code)
	}
	_, _ = c.Write(wiretest.Masked(nil, 0x88, p[:2]))
}

func (x *handshakeRig) checkWelcome(conn *rawClient, v vectors.Handshake) {
	x.t.Helper()
	want := v.Outcome.Welcome
	op, p := conn.frame()
	ctl, err := proto.ParseControl(p)
	w := ctl.Welcome
	if op != 0x81 || err != nil || ctl.Type != proto.TypeWelcome {
		x.t.Fatalf("got frame %#x %q, want a welcome", op, p)
	}
	if w.Resumed != want.Resumed || w.Reason != want.Reason || w.Received != want.Received {
		x.t.Errorf("welcome %+v, want %+v", w, *want)
	}
	if known := []string{"current", "earlier", "gone", "never"}; want.Resumed != (w.Stream == "current") || !want.Resumed && slices.Contains(known, w.Stream) {
		x.t.Errorf("stream %q", w.Stream)
	}
	// This message comes after all that are sent again.
	if err := x.node.session(x.claims.Session).Send(text("marker")); err != nil {
		x.t.Fatal(err)
	}
	for resends := uint64(0); ; {
		op, p := conn.frame()
		switch {
		case op == 0x82 && string(p[1:]) == "marker":
			if resends != v.Outcome.Resends {
				x.t.Errorf("%d messages were sent again, want %d", resends, v.Outcome.Resends)
			}
			return
		case op == 0x82:
			resends++
		case op != 0x81:
			x.t.Fatalf("got frame %#x %q", op, p)
		}
	}
}

// checkOldConn checks what happened to the connection that was open.
func (x *handshakeRig) checkOldConn(v vectors.Handshake) {
	x.t.Helper()
	switch {
	case x.old == nil:
	case v.Outcome.Replaces:
		if code := x.old.closed(); code != int(proto.CloseReplaced) {
			x.t.Errorf("the old connection was closed with %d", code)
		}
	case v.Session.Record == string(session.Ended):
	default:
		x.old.sendControl(proto.Control{Type: proto.TypePing, ID: 5})
		for {
			if ctl := x.old.control(); ctl.Type == proto.TypePong {
				return
			}
		}
	}
}
