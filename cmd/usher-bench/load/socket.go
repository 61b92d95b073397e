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
	buf  []byte // the message that is being read

	mu   sync.Mutex // protects writing
	out  []byte
	mask [4]byte
}

// socketBuffer is the size of the buffers that an idle socket keeps.
const socketBuffer = 512

// CloseError is the close frame of the server.
type CloseError struct {
	Code   uint16
	Reason string
}

func (e *CloseError) Error() string { return fmt.Sprintf("closed with %d %s", e.Code, e.Reason) }

// StatusError is the answer of a server that refused the handshake.
type StatusError struct {
	Status int
	Body   []byte
}

func (e *StatusError) Error() string { return fmt.Sprintf("refused with status %d", e.Status) }

// Open opens a WebSocket. It offers the subprotocol, unless that is "".
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
	if in == nil { // no data came with the answer
		in = bufio.NewReaderSize(conn, socketBuffer)
	}
	return &Socket{conn: conn, in: in, mask: ws.NewMask()}, conn.SetDeadline(time.Time{})
}

// MaxMessage is the largest frame that Read accepts, in bytes.
const MaxMessage = 16 << 20

// Read returns the next message, and whether it is text. b is valid until the next
// call. Read answers pings. The error is a *CloseError if the server has closed the
// connection.
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

// WriteBoth sends a text message, unless it is nil, and a binary message with one write.
func (s *Socket) WriteBoth(text, binary []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text != nil {
		s.appendFrame(ws.OpText, text)
	}
	s.appendFrame(ws.OpBinary, binary)
	return s.flush()
}

func (s *Socket) write(op ws.OpCode, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.appendFrame(op, b)
	return s.flush()
}

// appendFrame appends a frame to the output. s.mu is held.
func (s *Socket) appendFrame(op ws.OpCode, b []byte) {
	head := buffer{s.out}
	_ = ws.WriteHeader(&head, ws.Header{Fin: true, OpCode: op, Masked: true, Mask: s.mask, Length: int64(len(b))}) // cannot fail
	start := len(head.b)
	s.out = append(head.b, b...)
	ws.Cipher(s.out[start:], s.mask, 0)
}

// flush writes the output. s.mu is held.
func (s *Socket) flush() error {
	_, err := s.conn.Write(s.out)
	s.out = s.out[:0]
	if cap(s.out) > socketBuffer {
		s.out = nil
	}
	return err
}

// buffer is an io.Writer to memory.
type buffer struct{ b []byte }

func (w *buffer) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// Close sends a close frame and closes the connection.
func (s *Socket) Close() error {
	_ = s.conn.SetDeadline(time.Now().Add(time.Second))
	_ = s.write(ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))
	return s.conn.Close()
}

// Cut closes the connection without a close frame.
func (s *Socket) Cut() { _ = s.conn.Close() }
