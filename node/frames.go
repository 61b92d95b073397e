package node

import "encoding/binary"

// frames tracks the WebSocket frames of a connection, header by header. It lets the
// reader stop exactly at the end of a frame: between two frames no buffer holds
// unread bytes.
type frames struct {
	head      [14]byte // header of the current frame: 2 bytes, up to 8 of length, 4 of mask
	have      int      // header bytes read so far
	headerLen int      // length of the header, as far as known
	left      uint64   // payload bytes still to read
	more      bool     // the message continues in another frame
	pinged    bool     // the last frame was a ping or a pong, and no message is open
	parts     int      // frames of the current message so far
}

const (
	opcodeText   = 0x1
	opcodeBinary = 0x2
	opcodeClose  = 0x8
	opcodePing   = 0x9
	opcodePong   = 0xa
)

// between reports whether the reader is between two frames.
func (f *frames) between() bool { return f.have == 0 && f.left == 0 }

// maxRead returns how many bytes may be read next, at most n.
func (f *frames) maxRead(n int) int {
	if f.left > 0 {
		return int(min(uint64(n), f.left))
	}
	return min(n, max(f.headerLen, 2)-f.have)
}

// consume tracks the bytes b and returns what they contained.
func (f *frames) consume(b []byte) (seen amounts) {
	seen[rateBytes] = int64(len(b))
	for len(b) > 0 {
		if f.left > 0 {
			n := min(uint64(len(b)), f.left)
			f.left -= n
			b = b[n:]
			continue
		}
		n := copy(f.head[f.have:max(f.headerLen, 2)], b)
		f.have += n
		b = b[n:]
		f.header(&seen)
	}
	return seen
}

// header parses the header as far as it has arrived.
func (f *frames) header(seen *amounts) {
	if f.have < 2 {
		return
	}
	length := f.head[1] & 0x7f
	extra := 0
	switch length {
	case 126:
		extra = 2
	case 127:
		extra = 8
	}
	f.headerLen = 2 + extra
	if f.head[1]&0x80 != 0 {
		f.headerLen += 4
	}
	if f.have < f.headerLen {
		return
	}
	switch extra {
	case 0:
		f.left = uint64(length)
	case 2:
		f.left = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 8:
		f.left = binary.BigEndian.Uint64(f.head[2:])
	}
	opcode := f.head[0] & 0xf
	seen[rateFrames]++
	if opcode >= opcodeClose {
		seen[ratePings]++
	} else {
		f.more = f.head[0]&0x80 == 0
		f.parts++
		if !f.more {
			seen[rateMessages]++
		}
		if opcode != 0 { // the first frame of its message
			f.parts = 1
		}
	}
	// Control frames may come between the frames of one message.
	f.pinged = !f.more && (opcode == opcodePing || opcode == opcodePong)
	f.have, f.headerLen = 0, 0
}
