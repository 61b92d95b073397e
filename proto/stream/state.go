package stream

import "slices"

// State is the state of one side of a stream, from which another process can
// continue it. Every accepted message has been handled.
type State struct {
	Acked    uint64   // number of messages that the peer has acknowledged
	Kept     [][]byte // frames from Acked+1, which the peer has not acknowledged
	Received uint64   // number of messages accepted from the peer
}

// State returns the state of the stream, all of whose accepted messages must be
// handled. The caller must not change the frames.
func (s *Stream) State() State {
	return State{Acked: s.acked, Kept: slices.Clone(s.kept), Received: s.received}
}

// Restore returns a stream with the state st. It takes ownership of the frames.
func Restore(limits Limits, st State) *Stream {
	s := &Stream{
		Limits: limits, acked: st.Acked, kept: st.Kept,
		received: st.Received, handled: st.Received, acknowledged: st.Received,
	}
	for _, frame := range st.Kept {
		s.bytes += cost(frame)
	}
	return s
}
