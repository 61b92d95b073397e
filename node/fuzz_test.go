package node

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"reflect"
	"testing"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

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
			nothing := sessionState{stream: "s1", state: b}
			if !reflect.DeepEqual(*st, nothing) {
				t.Fatalf("accepted %+v", st)
			}
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
