package usher

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// handshake is what an attempt to attach tells the node.
type handshake struct {
	at       proto.Assignment
	stream   string // to be resumed; "" for a new one
	received uint64
	client   string
	attempt  uint64
}

// handshake fixes what the next attempt says. From here on nothing more may be
// taken in from an older connection: there must be none, or it is held.
func (s *Session) handshake() handshake {
	s.attempts++
	s.fresh = false
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Attempts = s.attempts
	h := handshake{at: s.at, stream: s.name, client: s.client, attempt: s.attempts}
	if s.stream != nil {
		h.received = s.stream.Received()
	}
	return h
}

func (h handshake) url() (string, error) {
	if err := checkAssignment(h.at); err != nil {
		return "", err
	}
	u, err := url.Parse(h.at.Node.URL)
	if err != nil {
		return "", err
	}
	q := u.Query()
	q.Set(proto.QueryClient, h.client)
	q.Set(proto.QueryAttempt, strconv.FormatUint(h.attempt, 10))
	if h.stream != "" {
		q.Set(proto.QueryStream, h.stream)
		q.Set(proto.QueryReceived, strconv.FormatUint(h.received, 10))
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// dial opens a connection and reads its welcome. It changes nothing of the
// session.
func (s *Session) dial(ctx context.Context, h handshake) (*conn, proto.Welcome, *loss) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AttachTimeout)
	defer cancel()
	c := newConn(s)
	if l := c.open(ctx, h); l != nil {
		return nil, proto.Welcome{}, l
	}
	typ, b, l := c.readMessage(ctx, proto.MaxControlBytes)
	var w proto.Welcome
	if l == nil {
		w, l = readWelcome(typ, b, h)
	}
	if l != nil {
		c.shut(l)
		l.unclear = l.Code == closeAbnormal
		if l.unclear && ctx.Err() != nil {
			l.Err = fmt.Errorf("no welcome within %s", s.cfg.AttachTimeout)
		}
		return nil, w, l
	}
	return c, w, nil
}

// readWelcome takes the first message of a connection for what it must be.
func readWelcome(typ websocket.MessageType, b []byte, h handshake) (proto.Welcome, *loss) {
	if typ != websocket.MessageText {
		return proto.Welcome{}, violation(proto.CloseProtocolError, "a message before the welcome")
	}
	ctl, err := proto.ParseControl(b)
	w := ctl.Welcome
	switch {
	case err != nil:
		return w, violation(proto.CloseProtocolError, "instead of a welcome: %w", err)
	case ctl.Type != proto.TypeWelcome:
		return w, violation(proto.CloseProtocolError, "%q before the welcome", ctl.Type)
	case h.at.Session != "" && w.Session != h.at.Session:
		return w, violation(proto.CloseProtocolError, "a welcome to another session")
	case len(w.Stream) > proto.MaxNameBytes:
		return w, violation(proto.CloseProtocolError, "a stream name of %d bytes", len(w.Stream))
	case w.Resumed && (h.stream == "" || w.Stream != h.stream):
		return w, violation(proto.CloseProtocolError, "it resumes a stream that was not named")
	}
	return w, nil
}

// open makes the WebSocket.
func (c *conn) open(ctx context.Context, h handshake) *loss {
	s := c.session
	target, err := h.url()
	if err != nil {
		return unopened(err)
	}
	header := s.header(h.at.Token)
	header.Del("Sec-WebSocket-Protocol")
	if err := s.addProof(header, proto.ProofAttach, h.at.Token); err != nil {
		return unopened(err)
	}
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { c.net = bare(info.Conn) }}
	ws, resp, err := websocket.Dial(httptrace.WithClientTrace(ctx, trace), target, &websocket.DialOptions{
		HTTPClient:     s.ws,
		HTTPHeader:     header,
		Subprotocols:   []string{proto.Subprotocol},
		OnPingReceived: func(context.Context, []byte) bool { c.hear(); return true },
	})
	switch {
	case err != nil && resp != nil && resp.StatusCode != http.StatusSwitchingProtocols:
		body, _ := io.ReadAll(resp.Body) // the library has kept 1 KiB of it
		l := unopened(fmt.Errorf("node %s: %w", h.at.Node.ID, problem(resp, body)))
		l.refused = resp.StatusCode == http.StatusUnauthorized
		return l
	case err != nil:
		l := unopened(fmt.Errorf("node %s: %w", h.at.Node.ID, withoutURL(err)))
		l.unclear = true // the request may have arrived
		return l
	case ws.Subprotocol() != proto.Subprotocol:
		_ = ws.CloseNow()
		return unopened(fmt.Errorf("node %s does not speak %s", h.at.Node.ID, proto.Subprotocol))
	}
	ws.SetReadLimit(-1) // read.go bounds messages, to close with a code of the protocol
	c.ws = ws
	return nil
}

// bare returns the connection beneath TLS: closing that one never waits.
func bare(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

// withoutURL leaves out the URL that net/http puts into its errors, since it
// names the stream.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
