package node

import (
	"encoding/binary"

	"github.com/usher-broker/usher/proto"
)

// Most messages are one frame, small enough to have come in one piece. They are
// read here, straight from what the kernel has given; everything else (controls of
// WebSocket, fragments, what has not come yet, what is wrong) is left to the
// library.

// readWhole acts on the whole messages among the bytes that came. It returns the
// code to close with, or else whether that was all.
func (c *conn) readWhole() (code proto.CloseCode, all bool) {
	buf, b := c.net.takeBetween()
	if buf == nil {
		return 0, false
	}
	for len(b) > 0 && code == 0 {
		text, payload, n := wholeFrame(b)
		if n == 0 {
			break
		}
		c.net.countWhole(b[:n])
		unmask(payload, [4]byte(b[n-len(payload)-4:]))
		code = c.act(text, payload)
		b = b[n:]
	}
	return code, c.net.giveBack(buf, b)
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

// limit is how many bytes a message may have on the wire.
func (c *conn) limit(text bool) int {
	if text {
		return proto.MaxControlBytes
	}
	return 1 + c.session.node.cfg.Limits.MessageBytes
}

// wholeFrame returns the payload of the frame that b begins with, still masked,
// and the frame's length, which is 0 if it is not a whole message.
func wholeFrame(b []byte) (text bool, payload []byte, n int) {
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

// unmask takes the client's mask off.
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

// appendFrameHeader appends the header of a whole message from the node.
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
