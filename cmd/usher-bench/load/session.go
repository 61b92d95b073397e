package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// Login sends a login to auth.
func Login(ctx context.Context, auth *Poster, r proto.LoginRequest) (proto.Assignment, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return proto.Assignment{}, err
	}
	return decodeAssignment(auth.Post(ctx, "/v1/login", "", body))
}

// Reconnect requests a new assignment for the session of the token. unreachable is the
// node that the client could not reach, or "".
func Reconnect(ctx context.Context, auth *Poster, token, unreachable string) (proto.Assignment, error) {
	body, err := json.Marshal(proto.ReconnectRequest{Unreachable: unreachable})
	if err != nil {
		return proto.Assignment{}, err
	}
	return decodeAssignment(auth.Post(ctx, "/v1/reconnect", "Authorization: Bearer "+token, body))
}

// RefusedError is an answer with a problem.
type RefusedError struct{ proto.Problem }

func (e *RefusedError) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Detail) }

func decodeAssignment(status int, answer []byte, err error) (proto.Assignment, error) {
	var a proto.Assignment
	if err != nil {
		return a, err
	}
	if status/100 != 2 {
		return a, newRefusedError(status, answer)
	}
	return a, json.Unmarshal(answer, &a)
}

func newRefusedError(status int, answer []byte) error {
	refused := &RefusedError{}
	_ = json.Unmarshal(answer, &refused.Problem)
	refused.Status = status
	return refused
}

// Session is the client of one session. Its methods are safe for concurrent use, except
// Attach.
type Session struct {
	dialer    *Dialer
	at        proto.Assignment
	onMessage func(data []byte) // called by the reader for every message

	attempt uint64
	writes  sync.Mutex // keeps the order of numbering and writing the same

	mu     sync.Mutex // protects the following
	name   string     // of the stream
	stream stream.Stream
	socket *Socket
	timer  *time.Timer // for the next acknowledgement
	ackAt  time.Time   // when it is due; zero for none
}

// NewSession returns the session of a login, without a connection. The reader calls
// onMessage with every message; data is valid until onMessage returns.
func NewSession(d *Dialer, at proto.Assignment, onMessage func(data []byte)) *Session {
	return &Session{dialer: d, at: at, onMessage: onMessage}
}

// Assignment returns the assignment of the session.
func (s *Session) Assignment() proto.Assignment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

// Assign replaces the assignment of the session.
func (s *Session) Assign(at proto.Assignment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = at
}

// ErrReset says that the stream was not resumed. Unconfirmed messages may be lost.
var ErrReset = errors.New("load: stream was reset")

// Attach attaches the session to its node, and resumes its stream if it has one. It
// sends the messages again that the node has not received. After ErrReset the session is
// attached too. The reader of an earlier connection must have ended.
func (s *Session) Attach(ctx context.Context) error {
	u, err := s.url()
	if err != nil {
		return err
	}
	token := s.Assignment().Token
	socket, err := Open(ctx, s.dialer, u, http.Header{"Authorization": {"Bearer " + token}}, proto.Subprotocol)
	if err != nil {
		var status *StatusError
		if errors.As(err, &status) {
			return newRefusedError(status.Status, status.Body)
		}
		return err
	}
	w, err := welcome(socket)
	if err != nil {
		socket.Cut()
		return err
	}
	return s.welcomed(socket, w)
}

func (s *Session) url() (*url.URL, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := url.Parse(s.at.Node.URL)
	if err != nil {
		return nil, err
	}
	s.attempt++
	q := url.Values{proto.QueryClient: {"load"}, proto.QueryAttempt: {strconv.FormatUint(s.attempt, 10)}}
	if s.name != "" {
		q.Set(proto.QueryStream, s.name)
		q.Set(proto.QueryReceived, strconv.FormatUint(s.stream.Received(), 10))
	}
	u.RawQuery = q.Encode()
	return u, nil
}

func welcome(socket *Socket) (proto.Welcome, error) {
	if err := socket.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return proto.Welcome{}, err
	}
	b, text, err := socket.Read()
	if err != nil {
		return proto.Welcome{}, err
	}
	ctl, err := proto.ParseControl(b)
	if err == nil && (!text || ctl.Type != proto.TypeWelcome) {
		err = errors.New("load: no welcome")
	}
	if err != nil {
		return proto.Welcome{}, err
	}
	return ctl.Welcome, socket.conn.SetReadDeadline(time.Time{})
}

func (s *Session) welcomed(socket *Socket, w proto.Welcome) error {
	s.writes.Lock()
	defer s.writes.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.socket, s.ackAt = socket, time.Time{}
	if !w.Resumed {
		had := s.name != ""
		s.name = w.Stream
		s.stream = stream.Stream{Limits: stream.Limits{Messages: w.MaxUnackedMessages, Bytes: w.MaxUnackedBytes}}
		if had {
			return ErrReset
		}
		return nil
	}
	if err := s.stream.Ack(w.Received); err != nil {
		return err
	}
	s.stream.Resumed()
	for _, frame := range s.stream.Unacked() {
		if err := socket.Write(frame, false); err != nil {
			return err
		}
	}
	return nil
}

// Serve reads until the connection ends, and returns the reason.
func (s *Session) Serve() error {
	s.mu.Lock()
	socket := s.socket
	s.mu.Unlock()
	if socket == nil {
		return net.ErrClosed
	}
	for {
		b, text, err := socket.Read()
		if err != nil {
			return err
		}
		if text {
			err = s.control(b)
		} else {
			err = s.message(socket, b)
		}
		if err != nil {
			return err
		}
	}
}

func (s *Session) control(b []byte) error {
	ctl, err := proto.ParseControl(b)
	if err != nil || ctl.Type != proto.TypeAck {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream.Ack(ctl.Received)
}

// ackDelay is how long an acknowledgement is delayed, to combine it with later ones. In
// the second half of the time it is sent together with the next message.
const ackDelay = 100 * time.Millisecond

func (s *Session) message(socket *Socket, b []byte) error {
	m, err := proto.ParseMessage(b)
	if err != nil {
		return err
	}
	if !m.Volatile { // before onMessage, which may send: its message can carry the acknowledgement
		s.mu.Lock()
		s.stream.Receive()
		s.stream.Handled(len(m.Data))
		due, now := s.stream.AckDue()
		var ack uint64
		switch {
		case now:
			ack, s.ackAt = s.stream.TakeAck(), time.Time{}
		case due && s.ackAt.IsZero():
			s.ackLater()
		}
		s.mu.Unlock()
		if now {
			if err := writeAck(socket, ack); err != nil {
				return err
			}
		}
	}
	s.onMessage(m.Data)
	return nil
}

// ackLater starts the timer of an acknowledgement. s.mu is held.
func (s *Session) ackLater() {
	s.ackAt = time.Now().Add(ackDelay)
	if s.timer == nil {
		s.timer = time.AfterFunc(ackDelay, s.sendDelayedAck)
	} else {
		s.timer.Reset(ackDelay)
	}
}

// sendDelayedAck runs when the timer fires.
func (s *Session) sendDelayedAck() {
	s.mu.Lock()
	socket := s.socket
	if s.ackAt.IsZero() || socket == nil {
		s.mu.Unlock()
		return
	}
	if wait := time.Until(s.ackAt); wait > 0 { // for a later acknowledgement
		s.timer.Reset(wait)
		s.mu.Unlock()
		return
	}
	s.ackAt = time.Time{}
	ack := s.stream.TakeAck()
	s.mu.Unlock()
	_ = writeAck(socket, ack) // the reader gets the error
}

func writeAck(socket *Socket, n uint64) error {
	return socket.Write(appendAck(nil, n), true)
}

func appendAck(b []byte, n uint64) []byte {
	return proto.AppendControl(b, proto.Control{Type: proto.TypeAck, Received: n})
}

// Send sends a message and keeps it until the node has confirmed it. Errors of the
// connection are reported by Serve.
func (s *Session) Send(data []byte) error {
	frame := proto.AppendMessage(make([]byte, 0, 1+len(data)), proto.Message{Data: data})
	s.writes.Lock()
	defer s.writes.Unlock()
	s.mu.Lock()
	_, err := s.stream.Send(frame)
	socket := s.socket
	var ack []byte
	if socket != nil && !s.ackAt.IsZero() && time.Until(s.ackAt) < ackDelay/2 {
		ack, s.ackAt = appendAck(nil, s.stream.TakeAck()), time.Time{}
	}
	s.mu.Unlock()
	if err == nil && socket != nil {
		_ = socket.WriteBoth(ack, frame)
	}
	return err
}

// Cut closes the connection without a close frame.
func (s *Session) Cut() {
	if socket := s.takeSocket(); socket != nil {
		socket.Cut()
	}
}

// Close closes the connection with a close frame. The node keeps the session for the
// resume window.
func (s *Session) Close() {
	if socket := s.takeSocket(); socket != nil {
		_ = socket.Close()
	}
}

// takeSocket returns the socket, or nil, and removes it from the session.
func (s *Session) takeSocket() *Socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	socket := s.socket
	s.socket = nil
	if s.timer != nil {
		s.timer.Stop()
	}
	return socket
}

// Reason returns a short name for an error, under which it is counted.
func Reason(err error) string {
	var refused *RefusedError
	var status *StatusError
	var closed *CloseError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused) && refused.Code != "":
		return strconv.Itoa(refused.Status) + " " + refused.Code
	case errors.As(err, &refused):
		return strconv.Itoa(refused.Status)
	case errors.As(err, &status):
		return strconv.Itoa(status.Status)
	case errors.As(err, &closed):
		return "closed " + strconv.Itoa(int(closed.Code)) + " " + closed.Reason
	case errors.Is(err, ErrElsewhere):
		return "not this machine"
	case errors.Is(err, ErrReset):
		return "reset"
	case errors.Is(err, stream.ErrFull):
		return "too much unconfirmed"
	}
	return networkReason(err)
}
