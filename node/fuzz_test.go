package node

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// The frames that are counted do not depend on how the bytes are split into reads,
// and no count exceeds what the bytes contain.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x82\x86\x01\x02\x03\x04\x01jgoqm"), uint8(1))
	f.Add(masked(masked(masked(nil, 0x02, []byte("ab")), 0x89, nil), 0x80, []byte("c")), uint8(3))
	f.Add([]byte("\x82\xfe\x00\x05abcdhello"), uint8(2))
	f.Add([]byte("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00x"), uint8(5))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		var atOnce, parts frames
		want := atOnce.consume(b)
		var got amounts
		step := int(cut)%17 + 1
		for rest := b; len(rest) > 0; {
			n := min(step, len(rest))
			for i, v := range parts.consume(rest[:n]) {
				got[i] += v
			}
			rest = rest[n:]
		}
		if got != want || parts != atOnce {
			t.Errorf("in steps of %d: %v, %+v; at once: %v, %+v", step, got, parts, want, atOnce)
		}
		if want[rateBytes] != int64(len(b)) || 2*want[rateFrames] > int64(len(b)) || want[rateMessages]+want[ratePings] > want[rateFrames] {
			t.Errorf("%d bytes: %v", len(b), want)
		}
		// Reading as the connection does, never beyond a frame, gives the same
		// counts.
		var bounded frames
		var seen amounts
		for rest := b; len(rest) > 0; {
			n := min(bounded.maxRead(len(rest)), len(rest))
			if n <= 0 {
				t.Fatalf("nothing may be read, with %d bytes there", len(rest))
			}
			for i, v := range bounded.consume(rest[:n]) {
				seen[i] += v
			}
			rest = rest[n:]
		}
		if seen != want {
			t.Errorf("frame by frame: %v, want %v", seen, want)
		}
	})
}

// decodeState accepts only a state of the session itself and of the current version,
// whatever bytes the store contains.
func FuzzSessionState(f *testing.F) {
	n := &Node{log: slog.New(slog.DiscardHandler)}
	rec := session.Record{ID: "fd.aaaaaaaaaaaaaaaaaaaaaaaaaa", User: "ada"}
	for _, st := range []sessionState{
		{Version: sessionStateVersion, Session: rec.ID, HasStream: true, Acked: 3, Received: 5, Kept: [][]byte{proto.AppendMessage(nil, proto.Message{Data: []byte("x")})}},
		{Version: sessionStateVersion, Session: rec.ID, Lost: "s0", Why: proto.ResetOverflow, Snapshot: []byte("1")},
		{Version: sessionStateVersion - 1, Session: rec.ID},
		{Version: sessionStateVersion, Session: "another"},
	} {
		b, err := json.Marshal(st)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("null"))
	f.Add(binary.BigEndian.AppendUint64(nil, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		st := n.decodeState(rec, session.StoredState{Stream: "s1", State: b})
		if st == nil {
			return
		}
		if st.Session != rec.ID || st.Version != sessionStateVersion {
			t.Fatalf("accepted %+v", st)
		}
		s := &Session{node: &Node{cfg: Config{Limits: Limits{UnackedBytes: 1 << 10, UnackedMessages: 10}}}}
		s.restore(st)
		if s.stream != nil {
			frames := s.stream.Unacked()
			messages(frames) // as in a Reset of the application
			if len(frames) != len(st.Kept) || len(frames) > 0 && !bytes.Equal(frames[0], st.Kept[0]) {
				t.Errorf("kept %q, has %q", st.Kept, frames)
			}
		}
	})
}
