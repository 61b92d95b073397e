package proto

import "bytes"

// shortControls are the controls that travel often, up to their number, as
// AppendControl and every SDK of ours write them.
var shortControls = []struct {
	prefix []byte
	typ    string
}{
	{[]byte(`{"type":"ack","received":`), TypeAck},
	{[]byte(`{"type":"ping","id":`), TypePing},
	{[]byte(`{"type":"pong","id":`), TypePong},
}

// parseShort reads a control that is written in exactly one of the ways above,
// and reports whether it is. It is to spare the busiest path encoding/json,
// which takes over fifty times as long (BenchmarkParseAck), allocates, and
// leaves a deep stack on every connection.
func parseShort(b []byte) (Control, bool) {
	for _, s := range shortControls {
		if digits, ok := bytes.CutPrefix(b, s.prefix); ok {
			n, ok := parseDigits(digits)
			c := Control{Type: s.typ}
			if s.typ == TypeAck {
				c.Received = n
			} else {
				c.ID = n
			}
			return c, ok
		}
	}
	return Control{}, false
}

// parseDigits reads a count of the plainest form and the brace after it.
func parseDigits(b []byte) (n uint64, ok bool) {
	const most = 16 // digits of MaxCount
	if len(b) < 2 || len(b) > most+1 || b[len(b)-1] != '}' || b[0] == '0' && len(b) > 2 {
		return 0, false
	}
	for _, d := range b[:len(b)-1] {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = 10*n + uint64(d-'0')
	}
	return n, n <= MaxCount
}
