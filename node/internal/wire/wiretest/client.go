// Package wiretest has the frames of a client, written and read byte by byte, for the
// tests of a server of WebSockets.
package wiretest

import (
	"encoding/binary"
	"errors"
	"io"
)

// endMarker is sent after each case. If the connection stays open, its pong comes back.
const endMarker = "end of case"

// Result writes the case to the connection in pieces of step bytes, and returns what
// came of it. It ignores the frames for which skip, if it is not nil, returns true. With
// late, frames may still come after the pong of the end: it waits for as many as the case
// has.
func (c Case) Result(conn io.ReadWriter, step int, late bool, skip func(first byte, payload []byte) bool) (code int, back []string) {
	for b := c.Bytes; len(b) > 0; {
		n := min(step, len(b))
		_, _ = io.WriteString(conn, b[:n]) // the server may close it before all is written
		b = b[n:]
	}
	_, _ = conn.Write(Masked(nil, 0x89, []byte(endMarker)))
	code = StaysOpen
	for done := false; code == StaysOpen && !(done && (!late || len(back) >= len(c.Back))); {
		first, payload, err := ReadFrame(conn)
		switch {
		case err != nil:
			code = 0
		case first == 0x88 && len(payload) >= 2:
			code = int(binary.BigEndian.Uint16(payload))
		case first == 0x88:
			code = 1005
		case first == 0x8a && string(payload) == endMarker:
			done = true
		case skip != nil && skip(first, payload):
		default:
			back = append(back, string(append([]byte{first}, payload...)))
		}
	}
	if code != StaysOpen {
		back = nil // an answer that was in transit may have come or not
	}
	return code, back
}

// ReadFrame reads a frame of the server: its first byte and its payload.
func ReadFrame(r io.Reader) (first byte, payload []byte, err error) {
	var h [10]byte
	if _, err := io.ReadFull(r, h[:2]); err != nil {
		return 0, nil, err
	}
	n := uint64(h[1])
	switch n {
	case 126:
		_, err = io.ReadFull(r, h[2:4])
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		_, err = io.ReadFull(r, h[2:10])
		n = binary.BigEndian.Uint64(h[2:])
	}
	if err == nil && n > 1<<20 {
		err = errors.New("a frame of the server is larger than any of its messages")
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	return h[0], payload, err
}

// Masked appends a frame as clients send it. first has the opcode and the bits before it.
func Masked(b []byte, first byte, payload []byte) []byte {
	const maskBit = 0x80
	switch n := len(payload); {
	case n < 126:
		b = append(b, first, maskBit|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, first, maskBit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, first, maskBit|127), uint64(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i, x := range payload {
		b = append(b, x^mask[i%4])
	}
	return b
}
