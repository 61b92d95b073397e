package proto

import (
	"reflect"
	"testing"
)

// parseShort may accept only what parseObject accepts, and must return the same control.
func TestParseShortAgrees(t *testing.T) {
	accepted := 0
	for _, text := range []string{
		`{"type":"ack","received":0}`, `{"type":"ack","received":7}`, `{"type":"ping","id":12}`, `{"type":"pong","id":345}`,
		`{"type":"ack","received":9007199254740991}`, `{"type":"ack","received":9007199254740992}`,
		`{"type":"ack","received":99999999999999999999}`, `{"type":"ack","received":00}`, `{"type":"ack","received":07}`,
		`{"type":"ack","received":}`, `{"type":"ack","received":-1}`, `{"type":"ack","received":1.0}`, `{"type":"ack","received":1e3}`,
		`{"type":"ack","received":1 }`, `{"type":"ack","received":1}}`, `{"type":"ack","received":1`, `{"type":"ack","received":1,"received":2}`,
		`{"type":"ack","received":"1"}`, `{"type":"ping","received":1}`, `{"type":"welcome","received":1}`, `{}`, ``, `{"type":"ack","received":١}`,
	} {
		if agree(t, []byte(text)) {
			accepted++
		}
	}
	if accepted != 5 {
		t.Errorf("parseShort accepted %d", accepted)
	}
}

func FuzzParseShort(f *testing.F) {
	f.Add([]byte(`{"type":"ack","received":123}`))
	f.Add([]byte(`{"type":"pong","id":9007199254740991}`))
	f.Fuzz(func(t *testing.T, b []byte) { agree(t, b) })
}

func agree(t *testing.T, b []byte) bool {
	short, ok := parseShort(b)
	if !ok {
		return false
	}
	long, err := parseObject(b)
	if err != nil || !reflect.DeepEqual(short, long) {
		t.Errorf("%q: short %+v, long %+v, %v", b, short, long, err)
	}
	return true
}

// BenchmarkParseAckJSON is BenchmarkParseAck without parseShort.
func BenchmarkParseAckJSON(b *testing.B) {
	text := []byte(`{"type":"ack","received":123456}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseObject(text); err != nil {
			b.Fatal(err)
		}
	}
}
