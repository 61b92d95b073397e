package wire

// Sizes of the buffers. They are shared: a connection has one only while bytes are in
// transit.
const (
	inputBytes   = 2 << 10
	messageBytes = 1 << 10  // at first; the buffer grows as bytes arrive
	maxKeptBytes = 64 << 10 // a larger buffer is not used again
)

// collected returns how much of the message has arrived in pieces.
func (r *reader) collected() int {
	if r.message == nil {
		return 0
	}
	return len(*r.message)
}

// grown returns the message so far, with space for n more bytes of the frame. The buffer
// doubles: a client gets space for what it sends, not for what it announces.
func (r *reader) grown(n int) []byte {
	if r.message == nil {
		r.message = r.conn.server.messages.Get().(*[]byte)
	}
	b := *r.message
	if need := len(b) + n; need > cap(b) {
		size := min(uint64(max(need, 2*cap(b))), uint64(len(b))+r.left)
		b = append(make([]byte, 0, size), b...)
		*r.message = b
	}
	return b
}

func (r *reader) releaseInput() {
	if r.in != nil {
		*r.in = (*r.in)[:0]
		r.conn.server.inputs.Put(r.in)
		r.in, r.pos = nil, 0
	}
}

func (r *reader) releaseMessage() {
	if r.message != nil {
		if *r.message = (*r.message)[:0]; cap(*r.message) <= maxKeptBytes {
			r.conn.server.messages.Put(r.message)
		}
		r.message = nil
	}
}
