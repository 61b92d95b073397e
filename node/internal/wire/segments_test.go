package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/node/internal/wire/wiretest"
)

// However the frames of a client are split into segments, and whatever pings and pongs
// come between them, every message is handed over once and in order, every ping is
// answered, and the connection stays open.
func TestAnySegments(t *testing.T) {
	eachTransport(t, func(t *testing.T, secure bool) {
		r := newRig(t, testConfig(), secure)
		rapid.Check(t, func(rt *rapid.T) {
			out, echoes, pongs := drawFrames(rt)
			c := r.rawDial()
			defer c.Close()
			go writeInPieces(c, out, rapid.SliceOfN(rapid.IntRange(1, 300), 0, 20).Draw(rt, "cuts"))
			for len(echoes)+len(pongs) > 0 {
				switch op, p := c.frame(); {
				case op == 0x82 && len(echoes) > 0 && bytes.Equal(p, echoes[0]):
					echoes = echoes[1:]
				case op == 0x8a && len(pongs) > 0 && bytes.Equal(p, pongs[0]):
					pongs = pongs[1:]
				default:
					rt.Fatalf("got frame %#x of %d bytes; %d messages and %d pongs are still to come", op, len(p), len(echoes), len(pongs))
				}
			}
		})
	})
}

// drawFrames returns valid frames of a client, the messages in them, and the payloads
// of their pings.
func drawFrames(rt *rapid.T) (out []byte, messages, pings [][]byte) {
	ping := func(p []byte) { out, pings = wiretest.Masked(out, 0x89, p), append(pings, p) }
	for range rapid.IntRange(1, 12).Draw(rt, "frames") {
		switch rapid.IntRange(0, 3).Draw(rt, "kind") {
		case 0:
			ping(rapid.SliceOfN(rapid.Byte(), 0, 125).Draw(rt, "ping"))
		case 1:
			out = wiretest.Masked(out, 0x8a, rapid.SliceOfN(rapid.Byte(), 0, 125).Draw(rt, "pong"))
		default:
			size := rapid.SampledFrom([]int{0, 1, 14, 100, 2040, 2048, 5000, 65536}).Draw(rt, "size")
			m := bytes.Repeat([]byte{byte(len(messages)), 1, 2}, size/3+1)[:size]
			messages = append(messages, m)
			first, rest := byte(0x02), m
			for range rapid.IntRange(0, 3).Draw(rt, "fragments") {
				n := rapid.IntRange(0, len(rest)).Draw(rt, "fragment")
				out, first, rest = wiretest.Masked(out, first, rest[:n]), 0, rest[n:]
				switch rapid.IntRange(0, 2).Draw(rt, "between") {
				case 0:
					ping([]byte("between"))
				case 1:
					out = wiretest.Masked(out, 0x8a, nil)
				}
			}
			out = wiretest.Masked(out, 0x80|first, rest)
		}
	}
	return out, messages, pings
}

// writeInPieces writes b, first in pieces of the given sizes. The reader reports what
// is missing.
func writeInPieces(w io.Writer, b []byte, cuts []int) {
	for _, cut := range cuts {
		n := min(cut, len(b))
		if _, err := w.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
	_, _ = w.Write(b)
}

// A message that is cut short by an orderly end of the connection never reaches the
// handler, wherever it is cut.
func TestCutShort(t *testing.T) {
	r := newRig(t, testConfig(), false)
	for _, size := range []int{1, 600, 1023, 1024, 2048, 4096, 5000} {
		frame := wiretest.Masked(nil, 0x82, bytes.Repeat([]byte("x"), size))
		for _, cut := range []int{1, 2, 6, 8, 9, len(frame) / 2, 1024 + 8, 2048, 2048 + 8, len(frame) - 1} {
			if cut >= len(frame) {
				continue
			}
			c := r.rawDial()
			if _, err := c.Write(frame[:cut]); err != nil {
				t.Fatal(err)
			}
			if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
				t.Fatalf("%d of %d bytes: got %q, %v", cut, len(frame), b, err)
			}
			if err := r.last().awaitClosed(t); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%d of %d bytes: closed with %v", cut, len(frame), err)
			}
		}
	}
}

// The buffer of a message grows with what has arrived, and not with what is announced,
// and never beyond the message.
func TestBufferGrows(t *testing.T) {
	const size = 60_000
	rapid.Check(t, func(rt *rapid.T) {
		r := &reader{conn: &Conn{server: New(testConfig())}}
		r.left, r.frame = size, header{fin: true, length: size}
		for r.left > 1 {
			n := rapid.IntRange(1, int(min(r.left-1, 3000))).Draw(rt, "bytes")
			before := r.collected()
			b := r.grown(n)
			if limit := max(messageBytes, 2*(before+n)); cap(b) > limit || cap(b) > size || cap(b) < before+n {
				rt.Fatalf("a buffer of %d bytes for %d that have arrived of %d", cap(b), before+n, size)
			}
			*r.message = b[:before+n]
			r.left -= uint64(n)
		}
	})
}

// Messages that arrive in one segment come in order, with everything between them.
func TestManyInOneSegment(t *testing.T) {
	r := newRig(t, testConfig(), false)
	c := r.rawDial()
	var out []byte
	for i := range 50 {
		out = wiretest.Masked(out, 0x81, fmt.Append(nil, i))
	}
	if _, err := c.Write(append(out, wiretest.Masked(nil, 0x89, []byte("p"))...)); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		c.expect(0x81, fmt.Sprint(i))
	}
	c.expect(0x8a, "p")
}
