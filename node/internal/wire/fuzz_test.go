package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/node/internal/wire/wiretest"
)

// However the bytes of a client are split into reads, they give the same messages, and
// the same answers, as the WebSocket library gives.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x82\x86\x01\x02\x03\x04\x01jgoqm"), uint8(1))
	f.Add(wiretest.Masked(wiretest.Masked(wiretest.Masked(nil, 0x02, []byte("ab")), 0x89, nil), 0x80, []byte("c")), uint8(3))
	f.Add([]byte("\x82\xfe\x00\x05abcdhello"), uint8(2))
	f.Add([]byte("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00x"), uint8(5))
	f.Add(wiretest.Masked(wiretest.Masked(nil, 0x81, []byte("x")), 0x88, []byte("\x03\xe8bye")), uint8(0))
	for _, c := range wireCases() {
		if len(c.Bytes) < 1000 {
			f.Add([]byte(c.Bytes), uint8(len(c.Bytes)))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		if len(b) > 6*maxFragments {
			return // the library has no limit of fragments
		}
		want := libraryReads(t, b)
		for _, step := range []int{int(cut)%17 + 1, 1 << 20} {
			if got := weRead(t, b, step); got != want {
				t.Errorf("in steps of %d: %s\nthe library: %s", step, got, want)
			}
		}
	})
}

// script is a net.Conn that reads the given bytes in steps, and records what is
// written.
type script struct {
	net.Conn // nil
	step     int
	end      error // of Read, when there are no more bytes

	mu      sync.Mutex
	in, out []byte
}

func (s *script) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.in) == 0 {
		return 0, s.end
	}
	n := copy(p[:min(len(p), s.step)], s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = append(s.out, p...)
	return len(p), nil
}

func (s *script) Close() error                     { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// answers describes what was written after the handshake, without the reason of a close
// frame.
func (s *script) answers(t *testing.T) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	r := bytes.NewReader(s.out)
	if i := bytes.Index(s.out, []byte("\r\n\r\n")); i >= 0 {
		r = bytes.NewReader(s.out[i+4:])
	}
	for r.Len() > 0 {
		first, payload, err := wiretest.ReadFrame(r)
		if err != nil {
			t.Fatalf("wrote an incomplete frame: %v", err)
		}
		if first == 0x88 && len(payload) >= 2 {
			list = append(list, fmt.Sprint("close ", binary.BigEndian.Uint16(payload)))
			continue
		}
		list = append(list, fmt.Sprintf("%#x %x", first, payload))
	}
	return fmt.Sprint(list)
}

// recording is a Handler that records the messages.
type recording struct {
	messages []string
	closed   chan error
}

func (h *recording) Message(text bool, b []byte) error {
	h.messages = append(h.messages, fmt.Sprintf("%v %x", text, b))
	clear(b) // b may be changed
	return nil
}

func (h *recording) Closed(err error) { h.closed <- err }

func weRead(t *testing.T, b []byte, step int) string {
	cfg := testConfig()
	cfg.MaxText, cfg.MaxBinary = math.MaxInt, math.MaxInt
	s := New(cfg)
	conn := &script{in: bytes.Clone(b), step: step, end: io.EOF}
	h := &recording{closed: make(chan error, 1)}
	c := s.NewConn(conn)
	c.Serve(h)
	s.Wait()
	if err := <-h.closed; err == nil {
		t.Fatal("reading ended without an error")
	}
	return fmt.Sprint(h.messages, conn.answers(t))
}

func libraryReads(t *testing.T, b []byte) string {
	// The library takes io.EOF within a message for the end of the message.
	conn := &script{in: bytes.Clone(b), step: 1 << 20, end: io.ErrUnexpectedEOF}
	ws, err := websocket.Accept(hijacked{conn, http.Header{}}, handshake(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	var messages []string
	for {
		typ, r, err := ws.Reader(context.Background())
		if err != nil {
			break
		}
		var b []byte
		if b, err = io.ReadAll(r); err != nil {
			break
		}
		messages = append(messages, fmt.Sprintf("%v %x", typ == websocket.MessageText, b))
	}
	return fmt.Sprint(messages, conn.answers(t))
}
