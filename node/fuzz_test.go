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

// However bytes are cut into reads, the frames that are counted are the same, and
// none of what is counted is more than was there.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x82\x86\x01\x02\x03\x04\x01jgoqm"), uint8(1))
	f.Add(masked(masked(masked(nil, 0x02, []byte("ab")), 0x89, nil), 0x80, []byte("c")), uint8(3))
	f.Add([]byte("\x82\xfe\x00\x05abcdhello"), uint8(2))
	f.Add([]byte("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00x"), uint8(5))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		var whole, parts frames
		want := whole.took(b)
		var got amounts
		step := int(cut)%17 + 1
		for rest := b; len(rest) > 0; {
			n := min(step, len(rest))
			for i, v := range parts.took(rest[:n]) {
				got[i] += v
			}
			rest = rest[n:]
		}
		if got != want || parts != whole {
			t.Errorf("in steps of %d: %v, %+v; at once: %v, %+v", step, got, parts, want, whole)
		}
		if want[rateBytes] != int64(len(b)) || 2*want[rateFrames] > int64(len(b)) || want[rateMessages]+want[ratePings] > want[rateFrames] {
			t.Errorf("%d bytes: %v", len(b), want)
		}
		// Read as the connection does, never beyond a frame, it is the same again.
		var polite frames
		var seen amounts
		for rest := b; len(rest) > 0; {
			n := min(polite.most(len(rest)), len(rest))
			if n <= 0 {
				t.Fatalf("nothing may be read, with %d bytes there", len(rest))
			}
			for i, v := range polite.took(rest[:n]) {
				seen[i] += v
			}
			rest = rest[n:]
		}
		if seen != want {
			t.Errorf("frame by frame: %v, want %v", seen, want)
		}
	})
}

// Whatever the store has of a session, it is one's own and whole, or nothing.
func FuzzParked(f *testing.F) {
	n := &Node{log: slog.New(slog.DiscardHandler)}
	rec := session.Record{ID: "fdee430d.aaaaaaaaaaaaaaaaaaaaaaaaaa", User: "ada"}
	for _, st := range []parked{
		{Version: parkedVersion, Session: rec.ID, Whole: true, Acked: 3, Received: 5, Kept: [][]byte{proto.AppendMessage(nil, proto.Message{Data: []byte("x")})}},
		{Version: parkedVersion, Session: rec.ID, Lost: "s0", Why: proto.ResetOverflow, Snapshot: []byte("1")},
		{Version: parkedVersion - 1, Session: rec.ID},
		{Version: parkedVersion, Session: "another"},
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
		st := n.read(rec, session.StoredState{Stream: "s1", State: b})
		if st == nil {
			return
		}
		if st.Session != rec.ID || st.Version != parkedVersion {
			t.Fatalf("taken: %+v", st)
		}
		s := &Session{node: &Node{cfg: Config{Limits: Limits{UnackedBytes: 1 << 10, UnackedMessages: 10}}}}
		s.unpark(st)
		if s.stream != nil {
			frames := s.stream.Unacked()
			messages(frames) // as the application would be told of them
			if len(frames) != len(st.Kept) || len(frames) > 0 && !bytes.Equal(frames[0], st.Kept[0]) {
				t.Errorf("kept %q, has %q", st.Kept, frames)
			}
		}
	})
}
