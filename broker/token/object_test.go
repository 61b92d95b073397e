package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"
	"unicode/utf8"
)

// FuzzReadObject compares readObject with the library's decoder, asked piece by
// piece.
func FuzzReadObject(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":"x","b":[1,{"c":"}"}],"d":{"e":"]\""}}`, `{"a":1,"a":2}`, `{"\u0061":1,"a":2}`, `{"a\\":"\\\\\"","b":-1.5e3}`,
		`{"a":true,"b":null}x`, `{"a":1,}`, `{"a" : 1 , "b" : false }`, "{\"a\":\"\x80\"}", `[]`, `null`, `"x"`, ``, `{"a":1}{"b":2}`, `{"":""}`, "\ufeff{}", "{\n\"a\"\t:\r0}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readObject(bytes.Clone(b))
		want, wantErr := readObjectSlowly(b)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, and the library says %v", b, err, wantErr)
		}
		if err != nil {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %q, not %q", b, got, want)
		}
		for name, v := range want {
			if !bytes.Equal(got[name], v) {
				t.Fatalf("%q: %q is %q, not %q", b, name, got[name], v)
			}
		}
	})
}

func readObjectSlowly(b []byte) (object, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	o := make(object)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		if _, twice := o[name.(string)]; twice {
			return nil, fmt.Errorf("%q twice", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		o[name.(string)] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	return o, nil
}
