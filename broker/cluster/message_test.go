package cluster

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/usher-broker/usher/proto"
)

func TestMessageRoundTrip(t *testing.T) {
	id := callID{1, 2, 3}
	b, err := appendCall(id, "auth-1/2", endCommand)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := parseMessage(b); err != nil || m.kind != kindCall || m.id != id || m.from != "auth-1/2" || m.cmd != endCommand {
		t.Errorf("got %+v, %v", m, err)
	}
	want := proto.CommandResult{Found: true, Error: "because"}
	if m, err := parseMessage(appendAnswer(id, want)); err != nil || m.kind != kindAnswer || m.id != id || m.result != want {
		t.Errorf("got %+v, %v", m, err)
	}
	for _, long := range []string{strings.Repeat("x", 5000), strings.Repeat("ü", 5000), strings.Repeat("\x00", 5000)} {
		m, err := parseMessage(appendAnswer(id, proto.CommandResult{Error: long}))
		if err != nil || !strings.HasPrefix(long, m.result.Error) || len(m.result.Error) < 50 || !utf8.ValidString(m.result.Error) {
			t.Errorf("long error: %q, %v", m.result.Error, err)
		}
	}
}

func TestBadMessages(t *testing.T) {
	n := start(t, nodeConfig("n"))
	call, _ := appendCall(callID{}, "a", endCommand)
	bad := [][]byte{
		nil,
		{0},
		{99},
		{kindReport},
		{kindReport, 1},
		{kindCall},
		call[:10], call[:17], call[:18], call[:len(call)-1],
		append(call[:len(call):len(call)], 'x'),
		{kindAnswer},
		append([]byte{kindAnswer}, make([]byte, 16)...),
		bytes.Repeat([]byte{kindReport}, 514), make([]byte, 1<<20),
	}
	for _, b := range bad {
		n.receive(b)
	}
	if h := n.Health(); h.BadMessages != uint64(len(bad)) {
		t.Errorf("%d counted, want %d", h.BadMessages, len(bad))
	}
}

func FuzzParseMessage(f *testing.F) {
	call, _ := appendCall(callID{}, "a", endCommand)
	report, _ := proto.AppendReport([]byte{kindReport}, proto.Report{ID: "n", Live: 7})
	for _, b := range [][]byte{call, report, appendAnswer(callID{}, proto.CommandResult{Found: true}), {}, {2}, {3, 0}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil || m.kind != kindCall {
			return
		}
		again, err := appendCall(m.id, m.from, m.cmd)
		if err != nil {
			return // the JSON may have become longer
		}
		if m2, err := parseMessage(again); err != nil || m2.cmd != m.cmd || m2.from != m.from {
			t.Fatalf("%+v became %+v, %v", m, m2, err)
		}
	})
}
