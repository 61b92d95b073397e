package node

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/node/internal/wire/wiretest"
	"github.com/usher-broker/usher/proto"
)

// rawClient reads and writes WebSocket frames byte by byte, to split them where no
// library would.
type rawClient struct {
	net.Conn
	t testing.TB
}

func (r *rig) rawAttach(t testing.TB, c proto.Claims) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", r.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return rawAttachOn(t, conn, c)
}

func rawAttachOn(t testing.TB, conn net.Conn, c proto.Claims) *rawClient {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: %s\r\n"+
		"Authorization: Bearer %s\r\n\r\n", proto.ConnectPath, proto.Subprotocol, tokenOf(c))
	head := make([]byte, 0, 512)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		head = append(head, 0)
		if _, err := io.ReadFull(conn, head[len(head)-1:]); err != nil {
			t.Fatalf("%v after %q", err, head)
		}
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 101 ") {
		t.Fatalf("answered %q", head)
	}
	cl := &rawClient{conn, t}
	if op, _ := cl.frame(); op != 0x81 {
		t.Fatalf("the first frame is %#x, not a text", op)
	}
	return cl
}

// frame reads one frame.
func (c *rawClient) frame() (first byte, payload []byte) {
	c.t.Helper()
	var h [2]byte
	c.readFull(h[:])
	n := int(h[1])
	if n == 126 {
		var l [2]byte
		c.readFull(l[:])
		n = int(binary.BigEndian.Uint16(l[:]))
	}
	payload = make([]byte, n)
	c.readFull(payload)
	return h[0], payload
}

func (c *rawClient) readFull(b []byte) {
	c.t.Helper()
	if _, err := io.ReadFull(c, b); err != nil {
		c.t.Fatalf("reading a frame: %v", err)
	}
}

// However the frames of a client are split into segments, and whatever pings and
// pongs come between them, every message is handled once and in order, every ping is
// answered, and the connection stays open.
func TestAnySegments(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		c := r.rawAttach(t, r.login(fmt.Sprint("seg-", n)))
		defer c.Close()
		var out []byte
		var echoes, pongs [][]byte
		for range rapid.IntRange(1, 12).Draw(rt, "frames") {
			switch rapid.IntRange(0, 3).Draw(rt, "kind") {
			case 0:
				p := rapid.SliceOfN(rapid.Byte(), 0, 125).Draw(rt, "ping")
				out, pongs = wiretest.Masked(out, 0x89, p), append(pongs, p)
			case 1:
				out = wiretest.Masked(out, 0x8a, rapid.SliceOfN(rapid.Byte(), 0, 125).Draw(rt, "pong"))
			default:
				size := rapid.SampledFrom([]int{0, 1, 14, 100, 2040, 2048, 5000}).Draw(rt, "size")
				m := proto.AppendMessage(nil, proto.Message{Data: bytes.Repeat([]byte{byte(len(echoes))}, size)})
				echoes = append(echoes, m)
				first, rest := byte(0x02), m // in fragments, with pings and pongs between them
				for range rapid.IntRange(0, 3).Draw(rt, "fragments") {
					n := rapid.IntRange(0, len(rest)).Draw(rt, "fragment")
					out, first, rest = wiretest.Masked(out, first, rest[:n]), 0, rest[n:]
					switch rapid.IntRange(0, 2).Draw(rt, "between") {
					case 0:
						p := []byte("between")
						out, pongs = wiretest.Masked(out, 0x89, p), append(pongs, p)
					case 1:
						out = wiretest.Masked(out, 0x8a, nil)
					}
				}
				out = wiretest.Masked(out, 0x80|first, rest)
			}
		}
		go func(b []byte, cuts []int) { // the client reads in the meantime
			for _, cut := range cuts {
				k := min(cut, len(b))
				if _, err := c.Write(b[:k]); err != nil {
					return // the reader reports it
				}
				b = b[k:]
			}
			_, _ = c.Write(b)
		}(out, rapid.SliceOfN(rapid.IntRange(1, 300), 0, 20).Draw(rt, "cuts"))
		for len(echoes)+len(pongs) > 0 {
			switch op, p := c.frame(); op {
			case 0x82:
				if len(echoes) == 0 || !bytes.Equal(p, echoes[0]) {
					rt.Fatalf("got a message of %d bytes; %d are still to come", len(p), len(echoes))
				}
				echoes = echoes[1:]
			case 0x8a:
				if len(pongs) == 0 || !bytes.Equal(p, pongs[0]) {
					rt.Fatalf("got pong %q; %d are still to come", p, len(pongs))
				}
				pongs = pongs[1:]
			case 0x81: // an acknowledgement
			default:
				rt.Fatalf("got frame %#x %q", op, p)
			}
		}
	})
}

// A message that is cut short by an orderly end of the connection never reaches the
// application, wherever it is cut.
func TestCutShort(t *testing.T) {
	j := newCallRecorder()
	r := newRig(t, j, nil)
	n := 0
	for _, size := range []int{1, 600, 1023, 1024, 2048, 4096, 5000} {
		frame := wiretest.Masked(nil, 0x82, proto.AppendMessage(nil, proto.Message{Data: bytes.Repeat([]byte("x"), size)}))
		for _, cut := range []int{1, 2, 6, 8, 9, len(frame) / 2, 1024 + 8, 2048, 2048 + 8, len(frame) - 1} {
			if cut >= len(frame) {
				continue
			}
			n++
			user := fmt.Sprint("cut-", n)
			c := r.rawAttach(t, r.login(user))
			if _, err := c.Write(frame[:cut]); err != nil {
				t.Fatal(err)
			}
			if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			j.await(t, user, "opened", "detached")
			c.Close()
		}
	}
}

// An idle connection still works after it answered a ping.
func TestAfterPong(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	c := r.rawAttach(t, r.login("ada"))
	defer c.Close()
	for i := range 3 {
		if _, err := c.Write(wiretest.Masked(nil, 0x8a, []byte("7"))); err != nil {
			t.Fatal(err)
		}
		msg := proto.AppendMessage(nil, text("after %d", i))
		if _, err := c.Write(wiretest.Masked(nil, 0x82, msg)); err != nil {
			t.Fatal(err)
		}
		for {
			op, p := c.frame()
			if op == 0x82 {
				if !bytes.Equal(p, msg) {
					t.Fatalf("got %q", p)
				}
				break
			}
		}
	}
}
