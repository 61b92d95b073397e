package stream

import "slices"

// State is one side's half of a stream at rest, for another process to
// continue. Everything taken in has been handled.
type State struct {
	Acked    uint64   // by the peer
	Kept     [][]byte // frames Acked+1 and on, which the peer has not acknowledged
	Received uint64   // from the peer
}

// State returns the state of a stream whose messages are all handled. The
// frames belong to the stream.
func (s *Stream) State() State {
	return State{Acked: s.acked, Kept: slices.Clone(s.kept), Received: s.received}
}

// Restore returns the stream in the state. It owns the frames from then on.
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
