package node

import "encoding/binary"

// frames follows the frames that pass, header by header, so that whoever reads
// never gets bytes of a frame together with bytes of the next: between two
// frames nothing is left in anybody's buffer.
type frames struct {
	head   [14]byte // of the frame that is read: 2 bytes, a length of up to 8, a mask
	have   int      // of them
	want   int      // of them, as far as known
	left   uint64   // of the payload
	more   bool     // the message goes on in another frame
	pinged bool     // the frame that ended was a ping or a pong, and no message is open
	parts  int      // frames of the message so far
}

const (
	opcodeText   = 0x1
	opcodeBinary = 0x2
	opcodeClose  = 0x8
	opcodePing   = 0x9
	opcodePong   = 0xa
)

// between reports whether no frame has begun.
func (f *frames) between() bool { return f.have == 0 && f.left == 0 }

// most returns how many bytes may be read next, of at most n.
func (f *frames) most(n int) int {
	if f.left > 0 {
		return int(min(uint64(n), f.left))
	}
	return min(n, max(f.want, 2)-f.have)
}

// took takes in what was read, and returns what that was.
func (f *frames) took(b []byte) (seen amounts) {
	seen[rateBytes] = int64(len(b))
	for len(b) > 0 {
		if f.left > 0 {
			n := min(uint64(len(b)), f.left)
			f.left -= n
			b = b[n:]
			continue
		}
		n := copy(f.head[f.have:max(f.want, 2)], b)
		f.have += n
		b = b[n:]
		f.header(&seen)
	}
	return seen
}

// header looks at what there is of the header.
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
	f.want = 2 + extra
	if f.head[1]&0x80 != 0 {
		f.want += 4
	}
	if f.have < f.want {
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
		if opcode != 0 { // the first of its message
			f.parts = 1
		}
	}
	// Controls may stand between the frames of one message.
	f.pinged = !f.more && (opcode == opcodePing || opcode == opcodePong)
	f.have, f.want = 0, 0
}
