package proto_test

import (
	"bytes"
	"errors"
	"reflect"
	"runtime"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/vectors"
)

func FuzzParseMessage(f *testing.F) {
	for _, v := range vectors.Messages() {
		f.Add([]byte(v.Frame))
	}
	for _, v := range vectors.BadMessages() {
		f.Add([]byte(v.Frame))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := proto.ParseMessage(b)
		if err != nil {
			return
		}
		if m.Text && !utf8.Valid(m.Data) {
			t.Fatalf("text that is not UTF-8 from %x", b)
		}
		if again := proto.AppendMessage(nil, m); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

func FuzzParseControl(f *testing.F) {
	for _, v := range vectors.Controls() {
		f.Add([]byte(v.Text))
	}
	for _, v := range vectors.BadControls() {
		f.Add(v.Payload())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c proto.Control
		var err error
		bounded(t, len(b), func() { c, err = proto.ParseControl(b) })
		if err != nil {
			if !errors.Is(err, proto.ErrControl) || c != (proto.Control{}) {
				t.Fatalf("%q: got %+v, %v", b, c, err)
			}
			return
		}
		if c.Type == "" || len(b) > proto.MaxControlBytes {
			t.Fatalf("%q: accepted as %+v", b, c)
		}
		if c.Received > proto.MaxCount || c.ID > proto.MaxCount || c.Welcome.Received > proto.MaxCount {
			t.Fatalf("%q: count out of range in %+v", b, c)
		}
		again, err := proto.ParseControl(proto.AppendControl(nil, c))
		if err != nil && len(proto.AppendControl(nil, c)) > proto.MaxControlBytes {
			return // with escapes the control is longer than the input
		}
		if err != nil || !equalControls(again, c) {
			t.Fatalf("%q: %+v became %+v, %v", b, c, again, err)
		}
	})
}

func FuzzParsePeer(f *testing.F) {
	addRecords(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var p proto.Peer
		var err error
		bounded(t, len(b), func() { p, err = proto.ParsePeer(b) })
		if err != nil {
			if !errors.Is(err, proto.ErrPeer) || p != (proto.Peer{}) {
				t.Fatalf("%x: got %+v, %v", b, p, err)
			}
			return
		}
		enc, err := proto.AppendPeer(nil, p)
		if err != nil || len(enc) > len(b) {
			t.Fatalf("%x: %+v encodes to %d bytes, %v", b, p, len(enc), err)
		}
		if again, err := proto.ParsePeer(enc); err != nil || again != p {
			t.Fatalf("%x: %+v became %+v, %v", b, p, again, err)
		}
	})
}

func FuzzParseReport(f *testing.F) {
	addRecords(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var r proto.Report
		var err error
		bounded(t, len(b), func() { r, err = proto.ParseReport(b) })
		if err != nil {
			if !errors.Is(err, proto.ErrPeer) || !reflect.DeepEqual(r, proto.Report{}) {
				t.Fatalf("%x: got %+v, %v", b, r, err)
			}
			return
		}
		enc, err := proto.AppendReport(nil, r)
		if err != nil || len(enc) > len(b) {
			t.Fatalf("%x: %+v encodes to %d bytes, %v", b, r, len(enc), err)
		}
		if again, err := proto.ParseReport(enc); err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%x: %+v became %+v, %v", b, r, again, err)
		}
	})
}

func addRecords(f *testing.F) {
	peer, err := proto.AppendPeer(nil, aPeer)
	if err != nil {
		f.Fatal(err)
	}
	report, err := proto.AppendReport(nil, aReport)
	if err != nil {
		f.Fatal(err)
	}
	withDrain := aReport
	withDrain.Drain = &proto.Drain{Deadline: time.UnixMilli(1_700_000_000_000), Total: 100, Remaining: 40, Held: 3, Cut: 1, Keep: true}
	draining, err := proto.AppendReport(nil, withDrain)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{peer, report, draining, peer[:len(peer)-1], {1}, {1, 1, 255}, {}} {
		f.Add(b)
	}
}

// bounded fails the test when f allocates far more memory than the input
// justifies. The limit is generous, because the fuzzing engine allocates at the
// same time.
func bounded(t *testing.T, input int, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > uint64(1<<20+64*input) {
		t.Fatalf("%d bytes allocated for an input of %d", n, input)
	}
}
