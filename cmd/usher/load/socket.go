package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// Socket is a WebSocket connection of a client. One goroutine may read while
// others write.
type Socket struct {
	conn net.Conn
	in   *bufio.Reader
	buf  []byte // of the message that is read

	mu   sync.Mutex // of writes
	out  []byte
	mask [4]byte
}

// socketBuffer holds a small message; a larger one is read past it.
const socketBuffer = 512

// CloseError says that the server has closed the connection, and with what code.
type CloseError struct {
	Code   uint16
	Reason string
}

func (e *CloseError) Error() string { return fmt.Sprintf("closed with %d %s", e.Code, e.Reason) }

// StatusError says that the server has refused the handshake.
type StatusError struct {
	Status int
	Body   []byte
}

func (e *StatusError) Error() string { return fmt.Sprintf("refused with status %d", e.Status) }

// Open opens a WebSocket, offering the subprotocol if there is one.
func Open(ctx context.Context, d *Dialer, u *url.URL, header http.Header, protocol string) (*Socket, error) {
	conn, err := d.Dial(ctx, u)
	if err != nil {
		return nil, err
	}
	s, err := upgrade(conn, d.Timeout, u, header, protocol)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

func upgrade(conn net.Conn, timeout time.Duration, u *url.URL, header http.Header, protocol string) (*Socket, error) {
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	refused := &StatusError{}
	dialer := ws.Dialer{
		ReadBufferSize: socketBuffer, Header: ws.HandshakeHeaderHTTP(header),
		OnStatusError: func(status int, _ []byte, resp io.Reader) {
			refused.Status = status
			if r, err := http.ReadResponse(bufio.NewReader(resp), nil); err == nil {
				refused.Body, _ = io.ReadAll(io.LimitReader(r.Body, maxAnswer))
			}
		},
	}
	if protocol != "" {
		dialer.Protocols = []string{protocol}
	}
	in, _, err := dialer.Upgrade(conn, u)
	switch {
	case refused.Status != 0:
		return nil, refused
	case err != nil:
		return nil, err
	}
	if in == nil { // nothing came with the answer
		in = bufio.NewReaderSize(conn, socketBuffer)
	}
	return &Socket{conn: conn, in: in, mask: ws.NewMask()}, conn.SetDeadline(time.Time{})
}

// MaxMessage bounds what is read of one message.
const MaxMessage = 16 << 20

// Read returns the next message, and whether it is text. It is valid until the
// next call. Pings are answered.
func (s *Socket) Read() (b []byte, text bool, err error) {
	s.buf = s.buf[:0]
	if cap(s.buf) > socketBuffer {
		s.buf = nil // an idle client holds none
	}
	for {
		h, err := ws.ReadHeader(s.in)
		if err != nil {
			return nil, false, err
		}
		if h.Length > MaxMessage {
			return nil, false, errors.New("load: message too large")
		}
		start := len(s.buf)
		s.buf = append(s.buf, make([]byte, h.Length)...)
		if _, err := io.ReadFull(s.in, s.buf[start:]); err != nil {
			return nil, false, err
		}
		if h.OpCode.IsControl() {
			if err := s.control(h.OpCode, s.buf[start:]); err != nil {
				return nil, false, err
			}
			s.buf = s.buf[:start]
			continue
		}
		text = text || h.OpCode == ws.OpText
		if h.Fin {
			return s.buf, text, nil
		}
	}
}

func (s *Socket) control(op ws.OpCode, payload []byte) error {
	switch op {
	case ws.OpPing:
		return s.write(ws.OpPong, payload)
	case ws.OpClose:
		code, reason := ws.ParseCloseFrameDataUnsafe(payload)
		_ = s.write(ws.OpClose, payload[:min(len(payload), 2)])
		return &CloseError{uint16(code), string([]byte(reason))}
	}
	return nil
}

// Write sends one message.
func (s *Socket) Write(b []byte, text bool) error {
	if text {
		return s.write(ws.OpText, b)
	}
	return s.write(ws.OpBinary, b)
}

// WriteBoth sends a text, if there is one, and a binary message in one piece.
func (s *Socket) WriteBoth(text, binary []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text != nil {
		s.gather(ws.OpText, text)
	}
	s.gather(ws.OpBinary, binary)
	return s.flush()
}

func (s *Socket) write(op ws.OpCode, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gather(op, b)
	return s.flush()
}

// gather appends a frame to what is written next. s.mu is held.
func (s *Socket) gather(op ws.OpCode, b []byte) {
	head := buffer{s.out}
	_ = ws.WriteHeader(&head, ws.Header{Fin: true, OpCode: op, Masked: true, Mask: s.mask, Length: int64(len(b))}) // to memory
	start := len(head.b)
	s.out = append(head.b, b...)
	ws.Cipher(s.out[start:], s.mask, 0)
}

// flush writes what was gathered. s.mu is held.
func (s *Socket) flush() error {
	_, err := s.conn.Write(s.out)
	s.out = s.out[:0]
	if cap(s.out) > socketBuffer {
		s.out = nil
	}
	return err
}

// buffer is what a header is written to.
type buffer struct{ b []byte }

func (w *buffer) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// Close says goodbye and closes the connection.
func (s *Socket) Close() error {
	_ = s.conn.SetDeadline(time.Now().Add(time.Second))
	_ = s.write(ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))
	return s.conn.Close()
}

// Cut closes the connection without a word, as a lost network does.
func (s *Socket) Cut() { _ = s.conn.Close() }
