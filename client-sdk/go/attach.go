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

// handshake holds the data that an attempt to attach sends to the node.
type handshake struct {
	at       proto.Assignment
	stream   string // the stream to resume; "" for a new one
	received uint64
	client   string
	attempt  uint64
}

// handshake returns the data of the next attempt. From now on the session must not
// accept messages from an older connection: there must be none, or it must be held.
func (s *Session) handshake() handshake {
	s.attempts++
	s.untried = false
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

// dial opens a connection and reads its welcome. It does not change the session.
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
		l.outcomeUnknown = l.Code == closeAbnormal
		if l.outcomeUnknown && ctx.Err() != nil {
			l.Err = fmt.Errorf("no welcome within %s", s.cfg.AttachTimeout)
		}
		return nil, w, l
	}
	return c, w, nil
}

// readWelcome parses and checks the first message of a connection.
func readWelcome(typ websocket.MessageType, b []byte, h handshake) (proto.Welcome, *loss) {
	if typ != websocket.MessageText {
		return proto.Welcome{}, violation(proto.CloseProtocolError, "a message came before the welcome")
	}
	ctl, err := proto.ParseControl(b)
	w := ctl.Welcome
	switch {
	case err != nil:
		return w, violation(proto.CloseProtocolError, "the first control is not a welcome: %w", err)
	case ctl.Type != proto.TypeWelcome:
		return w, violation(proto.CloseProtocolError, "a control %q came before the welcome", ctl.Type)
	case h.at.Session != "" && w.Session != h.at.Session:
		return w, violation(proto.CloseProtocolError, "the welcome is for another session")
	case len(w.Stream) > proto.MaxNameBytes:
		return w, violation(proto.CloseProtocolError, "the stream name in the welcome has %d bytes, at most %d are allowed", len(w.Stream), proto.MaxNameBytes)
	case w.Resumed && (h.stream == "" || w.Stream != h.stream):
		return w, violation(proto.CloseProtocolError, "the welcome resumes a stream that the client did not name")
	}
	return w, nil
}

// open opens the WebSocket.
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
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { c.net = rawConn(info.Conn) }}
	ws, resp, err := websocket.Dial(httptrace.WithClientTrace(ctx, trace), target, &websocket.DialOptions{
		HTTPClient:     s.ws,
		HTTPHeader:     header,
		Subprotocols:   []string{proto.Subprotocol},
		OnPingReceived: func(context.Context, []byte) bool { c.touch(); return true },
	})
	switch {
	case err != nil && resp != nil && resp.StatusCode != http.StatusSwitchingProtocols:
		body, _ := io.ReadAll(resp.Body) // the library keeps at most 1 KiB of it
		l := unopened(fmt.Errorf("node %s: %w", h.at.Node.ID, problem(resp, body)))
		l.refused = resp.StatusCode == http.StatusUnauthorized
		return l
	case err != nil:
		l := unopened(fmt.Errorf("node %s: %w", h.at.Node.ID, withoutURL(err)))
		l.outcomeUnknown = true // the request may have arrived
		return l
	case ws.Subprotocol() != proto.Subprotocol:
		_ = ws.CloseNow()
		return unopened(fmt.Errorf("node %s did not select the subprotocol %s", h.at.Node.ID, proto.Subprotocol))
	}
	ws.SetReadLimit(-1) // read.go limits messages, and closes with a code of the protocol
	c.ws = ws
	return nil
}

// rawConn returns the connection below TLS, which can be closed without waiting.
func rawConn(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

// withoutURL removes the URL that net/http adds to its errors, because it contains
// the name of the stream.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
