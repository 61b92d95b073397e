package proto

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// appendWelcome writes the same bytes as encoding/json.
func TestAppendWelcome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := Welcome{
			Session: rapid.String().Draw(t, "session"), Stream: rapid.String().Draw(t, "stream"), Node: rapid.String().Draw(t, "node"),
			Resumed: rapid.Bool().Draw(t, "resumed"), Reason: rapid.SampledFrom([]string{"", ResetExpired, `<"\>`}).Draw(t, "reason"),
			Received: rapid.Uint64().Draw(t, "received"), PingIntervalMS: rapid.Int64().Draw(t, "ping"), ResumeWindowMS: rapid.Int64().Draw(t, "window"),
			MaxMessageBytes: rapid.Int().Draw(t, "bytes"), MaxUnackedBytes: rapid.Int().Draw(t, "unacked"), MaxUnackedMessages: rapid.Int().Draw(t, "messages"),
			TokenExpiresAt: time.Unix(rapid.Int64Range(0, 253402300799).Draw(t, "expires"), 0).UTC(),
		}
		got, want := string(AppendControl(nil, Control{Type: TypeWelcome, Welcome: w})), string(appendObject(nil, TypeWelcome, w))
		if got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}
