package jsonwalk_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/usher-broker/usher/proto/jsonwalk"
)

// FuzzWalk compares what is seen with what the library's decoder says, token by
// token.
func FuzzWalk(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { } `, `[]`, `[ [ ] , {} ]`, `{"a":1}`, `{"a":"x","b":[1,{"c":"}"}],"d":{"e":"]\""}}`, `{"a":1,"a":2}`, `{"\u0061":1,"a":2}`,
		`{"a\\":"\\\\\"","b":-1.5e3}`, `{"a" : 1 , "b" : false }`, `null`, `"x"`, ` 1 `, `{"":""}`, "{\n\"a\"\t:\r0}", `[1,"a",null,true,{"a":[]}]`, `{"a":"\ud800"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !json.Valid(b) || !utf8.Valid(b) {
			return
		}
		before := bytes.Clone(b)
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		compare(t, d, b)
		if !bytes.Equal(b, before) {
			t.Fatalf("%q was changed", before)
		}
	})
}

func compare(t *testing.T, d *json.Decoder, b []byte) {
	first, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	switch jsonwalk.Kind(b) {
	case '{':
		for name, v := range jsonwalk.Members(b) {
			if want, _ := d.Token(); want != name {
				t.Fatalf("%q: name %q, not %q", b, name, want)
			}
			compare(t, d, v)
		}
	case '[':
		for v := range jsonwalk.Elements(b) {
			compare(t, d, v)
		}
	case '"':
		if got := jsonwalk.Text(bytes.TrimSpace(b)); got != first {
			t.Fatalf("%q: %q, not %q", b, got, first)
		}
		return
	default:
		return
	}
	if last, _ := d.Token(); last != json.Delim('}') && last != json.Delim(']') {
		t.Fatalf("%q: %v is left", b, last)
	}
}

func BenchmarkMembers(b *testing.B) {
	body := []byte(`{"method":"guest","credentials":{"name":"ada"},"placement":{"region":"eu","group":"match-42"}}`)
	b.ReportAllocs()
	for b.Loop() {
		for range jsonwalk.Members(body) {
			continue
		}
	}
}
