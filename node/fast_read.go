package node

import (
	"encoding/binary"

	"github.com/usher-broker/usher/proto"
)

// Most messages are one frame and arrive in one piece. This file reads them directly
// from the bytes that the kernel returned. The library reads everything else:
// WebSocket control frames, fragments, frames that have not arrived completely, and
// invalid frames.

// readCompleteFrames acts on the complete messages among the bytes that arrived. It
// returns the code to close with, or else whether no bytes are left.
func (c *conn) readCompleteFrames() (code proto.CloseCode, all bool) {
	buf, b := c.net.takeBuffered()
	if buf == nil {
		return 0, false
	}
	for len(b) > 0 && code == 0 {
		text, payload, n := completeFrame(b)
		if n == 0 {
			break
		}
		c.net.countFrame(b[:n])
		unmask(payload, [4]byte(b[n-len(payload)-4:]))
		code = c.act(text, payload)
		b = b[n:]
	}
	return code, c.net.returnBuffered(buf, b)
}

// act acts on one message.
func (c *conn) act(text bool, b []byte) proto.CloseCode {
	switch {
	case len(b) > c.limit(text):
		return proto.CloseTooLarge
	case text:
		return c.control(b)
	}
	return c.message(b)
}

// limit returns how many bytes a message may have on the wire.
func (c *conn) limit(text bool) int {
	if text {
		return proto.MaxControlBytes
	}
	return 1 + c.session.node.cfg.Limits.MessageBytes
}

// completeFrame returns the payload of the frame at the start of b, still masked, and
// the length of the frame. The length is 0 if b does not start with a complete
// message.
func completeFrame(b []byte) (text bool, payload []byte, n int) {
	const fin, masked, maskBytes = 0x80, 0x80, 4
	if len(b) < 2+maskBytes || b[0] != fin|opcodeText && b[0] != fin|opcodeBinary || b[1]&masked == 0 {
		return false, nil, 0
	}
	head, length := 2+maskBytes, int(b[1]&^masked)
	switch length {
	case 126:
		if head += 2; len(b) < head {
			return false, nil, 0
		}
		length = int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		return false, nil, 0
	}
	if n = head + length; len(b) < n {
		return false, nil, 0
	}
	return b[0] == fin|opcodeText, b[head:n], n
}

// unmask removes the mask of the client.
func unmask(b []byte, key [4]byte) {
	k := uint64(binary.LittleEndian.Uint32(key[:]))
	k |= k << 32
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k)
	}
	for i := range b {
		b[i] ^= key[i&3]
	}
}

// appendFrameHeader appends the header of an unfragmented message of the node.
func appendFrameHeader(b []byte, opcode byte, length int) []byte {
	const fin = 0x80
	switch {
	case length < 126:
		return append(b, fin|opcode, byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, fin|opcode, 126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(b, fin|opcode, 127), uint64(length))
}
