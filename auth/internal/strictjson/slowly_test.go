package strictjson

import (
	"bytes"
	"testing"
)

// FuzzReadSlowly compares Read with what it does for bodies that are unusual: there must
// be no difference but in how long it takes.
func FuzzReadSlowly(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"b":null}`, `{"a":{"b":[1,{"c":2,"c":3}]}}`, `{"a":1,"\u0061":2}`, `[]`, `{"a":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}`, `{"a":1}x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Read(b)
		want, wantErr := readSlowly(b)
		if (err == nil) != (wantErr == nil) && err.Error() != "not valid UTF-8" {
			t.Fatalf("%q: %v, not %v", b, err, wantErr)
		}
		if err != nil {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %v, not %v", b, got, want)
		}
		for name, v := range want {
			if !bytes.Equal(got[name], v) {
				t.Fatalf("%q: %s is %s, not %s", b, name, got[name], v)
			}
		}
	})
}
