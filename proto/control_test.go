package proto_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/vectors"
)

// knownTypes are the control types of this version.
var knownTypes = []string{proto.TypeWelcome, proto.TypeAck, proto.TypePing, proto.TypePong, proto.TypeGoAway}

func TestControlVectors(t *testing.T) {
	for _, v := range vectors.Controls() {
		t.Run(v.Name, func(t *testing.T) {
			want := v.Control.Control()
			got, err := proto.ParseControl([]byte(v.Text))
			if err != nil || !equalControls(got, want) {
				t.Fatalf("decoded as %+v, %v; want %+v", got, err, want)
			}
			again, err := proto.ParseControl(proto.AppendControl(nil, got))
			if err != nil || !equalControls(again, want) {
				t.Errorf("after a round trip %+v, %v; want %+v", again, err, want)
			}
		})
	}
}

func TestBadControlVectors(t *testing.T) {
	for _, v := range vectors.BadControls() {
		t.Run(v.Name, func(t *testing.T) {
			got, err := proto.ParseControl(v.Payload())
			if !errors.Is(err, proto.ErrControl) {
				t.Errorf("got %v, want an ErrControl", err)
			}
			if got != (proto.Control{}) {
				t.Errorf("got %+v with the error", got)
			}
		})
	}
}

// The exact encodings of this implementation. They are not normative (the order
// of fields is free), but a test must show when they change.
func TestControlGolden(t *testing.T) {
	for _, tc := range []struct {
		c    proto.Control
		want string
	}{
		{proto.Control{Type: proto.TypeAck, Received: proto.MaxCount}, `{"type":"ack","received":9007199254740991}`},
		{proto.Control{Type: proto.TypePing, ID: 7}, `{"type":"ping","id":7}`},
		{proto.Control{Type: proto.TypePong}, `{"type":"pong","id":0}`},
		{
			proto.Control{Type: proto.TypeGoAway, GoAway: proto.GoAway{Reason: proto.GoAwayDrain, AfterMS: 1, ByMS: 30_000}},
			`{"type":"goaway","reason":"drain","after_ms":1,"by_ms":30000}`,
		},
		{
			proto.Control{Type: proto.TypeWelcome, Welcome: proto.Welcome{
				Session: "5f3a", Stream: "Q7ZK", Node: "node-7", Reason: proto.ResetNodeLost,
				PingIntervalMS: 15_000, ResumeWindowMS: 60_000,
				MaxMessageBytes: 65_536, MaxUnackedBytes: 262_144, MaxUnackedMessages: 1024,
				TokenExpiresAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			}},
			`{"type":"welcome","session":"5f3a","stream":"Q7ZK","node":"node-7","resumed":false,"reason":"node_lost","received":0,` +
				`"ping_interval_ms":15000,"resume_window_ms":60000,"max_message_bytes":65536,"max_unacked_bytes":262144,` +
				`"max_unacked_messages":1024,"token_expires_at":"2026-01-02T03:04:05Z"}`,
		},
		{proto.Control{Type: "later"}, `{"type":"later"}`},
		{proto.Control{Type: "a\x00\"<"}, `{"type":"a\u0000\"\u003c"}`},
	} {
		if got := string(proto.AppendControl(nil, tc.c)); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}

func TestControlRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawControl(t)
		b := proto.AppendControl([]byte("before"), want)
		text, ok := strings.CutPrefix(string(b), "before")
		if !ok {
			t.Fatalf("%s does not begin with the bytes of the given buffer", b)
		}
		got, err := proto.ParseControl([]byte(text))
		if err != nil || !equalControls(got, want) {
			t.Fatalf("%s: got %+v, %v; want %+v", text, got, err, want)
		}
	})
}

func TestShortControlForms(t *testing.T) {
	for text, valid := range map[string]bool{
		`{"type":"ack","received":0}`: true, `{"type":"ack","received":7}`: true, `{"type":"ping","id":12}`: true, `{"type":"pong","id":345}`: true,
		`{"type":"ack","received":9007199254740991}`: true, `{"type":"ack","received":1 }`: true, `{"type":"ack","received":1,"received":2}`: true,
		`{"type":"ack","received":9007199254740992}`: false, `{"type":"ack","received":99999999999999999999}`: false,
		`{"type":"ack","received":00}`: false, `{"type":"ack","received":07}`: false, `{"type":"ack","received":}`: false,
		`{"type":"ack","received":-1}`: false, `{"type":"ack","received":1.0}`: false, `{"type":"ack","received":1e3}`: false,
		`{"type":"ack","received":1}}`: false, `{"type":"ack","received":1`: false, `{"type":"ack","received":"1"}`: false,
		`{"type":"ping","received":1}`: false, `{"type":"welcome","received":1}`: false, `{}`: false, ``: false, `{"type":"ack","received":١}`: false,
	} {
		if c, err := proto.ParseControl([]byte(text)); (err == nil) != valid {
			t.Errorf("%s: %+v, %v", text, c, err)
		}
	}
}

func TestControlTooLongIsNotParsed(t *testing.T) {
	long := []byte(`{"type":"ack","received":1,"pad":"` + strings.Repeat("x", 1<<20) + `"}`)
	if n := testing.AllocsPerRun(10, func() {
		if _, err := proto.ParseControl(long); !errors.Is(err, proto.ErrControl) {
			t.Fatal(err)
		}
	}); n > 5 {
		t.Errorf("%v allocations to refuse a control by its length", n)
	}
}

func drawControl(t *rapid.T) proto.Control {
	count := rapid.Uint64Range(0, proto.MaxCount)
	setting := rapid.Int64Range(1, proto.MaxSetting)
	text := rapid.StringN(1, 20, 80)
	c := proto.Control{Type: rapid.SampledFrom(append(knownTypes, "later")).Draw(t, "type")}
	switch c.Type {
	case proto.TypeAck:
		c.Received = count.Draw(t, "received")
	case proto.TypePing, proto.TypePong:
		c.ID = count.Draw(t, "id")
	case proto.TypeGoAway:
		after := setting.Draw(t, "after")
		c.GoAway = proto.GoAway{
			Reason: text.Draw(t, "reason"), AfterMS: after, ByMS: rapid.Int64Range(after, proto.MaxSetting).Draw(t, "by"),
		}
	case proto.TypeWelcome:
		size := setting.Draw(t, "message bytes")
		c.Welcome = proto.Welcome{
			Session: text.Draw(t, "session"), Stream: text.Draw(t, "stream"), Node: text.Draw(t, "node"),
			Resumed:        rapid.Bool().Draw(t, "resumed"),
			PingIntervalMS: setting.Draw(t, "ping"), ResumeWindowMS: setting.Draw(t, "window"),
			MaxMessageBytes: int(size), MaxUnackedBytes: int(rapid.Int64Range(size, proto.MaxSetting).Draw(t, "bytes")),
			MaxUnackedMessages: int(setting.Draw(t, "messages")),
			TokenExpiresAt:     time.Unix(rapid.Int64Range(0, 1<<35).Draw(t, "expires"), 0).UTC(),
		}
		if c.Welcome.Resumed {
			c.Welcome.Received = count.Draw(t, "received")
		} else {
			c.Welcome.Reason = rapid.SampledFrom([]string{"", proto.ResetUnknown}).Draw(t, "reason")
		}
	}
	return c
}

func equalControls(a, b proto.Control) bool {
	if !a.Welcome.TokenExpiresAt.Equal(b.Welcome.TokenExpiresAt) {
		return false
	}
	a.Welcome.TokenExpiresAt, b.Welcome.TokenExpiresAt = time.Time{}, time.Time{}
	return a == b
}
