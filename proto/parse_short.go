package proto

import (
	"bytes"
	"strconv"
)

// shortControls are the frequent controls, up to their number, as AppendControl and
// the SDKs of this project write them.
var shortControls = []struct {
	prefix []byte
	typ    string
}{
	{[]byte(`{"type":"ack","received":`), TypeAck},
	{[]byte(`{"type":"ping","id":`), TypePing},
	{[]byte(`{"type":"pong","id":`), TypePong},
}

// parseShort reads a control that is written in exactly one of these ways, and reports
// whether it is. A reader of any JSON would take 6 to 9 % of the processor time of an
// echo whose client acknowledges each message; see docs/decisions.md.
func parseShort(b []byte) (Control, bool) {
	for _, s := range shortControls {
		rest, found := bytes.CutPrefix(b, s.prefix)
		if !found {
			continue
		}
		digits, closed := bytes.CutSuffix(rest, []byte("}"))
		n, err := strconv.ParseUint(string(digits), 10, 64)
		if !closed || err != nil || n > MaxCount || digits[0] == '0' && len(digits) > 1 {
			return Control{}, false
		}
		if s.typ == TypeAck {
			return Control{Type: s.typ, Received: n}, true
		}
		return Control{Type: s.typ, ID: n}, true
	}
	return Control{}, false
}
