package credential

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestGuest(t *testing.T) {
	for in, want := range map[string]string{
		`{"name":"ada"}`:                              "ada",
		`{"name":"Ada Lovelace 👩 Ώ"}`:                 "Ada Lovelace 👩 Ώ",
		`{"name":"a:b/c"}`:                            "a:b/c",
		`{"name":"ada","avatar":[1,2,3]}`:             "ada",
		`{"name":"` + strings.Repeat("n", 128) + `"}`: strings.Repeat("n", 128),
	} {
		if id, err := (Guest{}).Verify(t.Context(), json.RawMessage(in)); err != nil || id.User != want {
			t.Errorf("%s is %q, %v", in, id.User, err)
		}
	}
}

func TestGuestsWithoutNameGetOneEach(t *testing.T) {
	seen := make(map[string]bool)
	for _, in := range []string{"", "null", "{}", `{"name":""}`, `{"name":null}`} {
		for range 100 {
			id, err := (Guest{Prefix: "g:"}).Verify(t.Context(), json.RawMessage(in))
			if err != nil || !strings.HasPrefix(id.User, "g:guest-") || CheckName(id.User) != nil || seen[id.User] {
				t.Fatalf("%s is %q, %v", in, id.User, err)
			}
			seen[id.User] = true
		}
	}
}

func TestGuestRefuses(t *testing.T) {
	for _, in := range []string{
		`"ada"`, `[]`, `1`, `{`, `{"name":1}`, `{"name":{}}`, `{"name":"a\n"}`, `{"name":"\u0000"}`, `{"name":" a"}`,
		`{"name":"\u202ea"}`, `{"name":"\ufeffa"}`, `{"name":"\ud800"}`, `{"name":"a\u00ad"}`, `{"name":"\u3000"}`, "{\"name\":\"\xff\"}",
		`{"name":"` + strings.Repeat("n", 127) + `"}`, // with the prefix
		`{"name":"` + strings.Repeat("n", 1000) + `"}`,
	} {
		if id, err := (Guest{Prefix: "g:"}).Verify(t.Context(), json.RawMessage(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.40s is %q, %v", in, id.User, err)
		}
	}
}

func FuzzGuest(f *testing.F) {
	f.Add(`{"name":"ada"}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, in string) {
		id, err := (Guest{Prefix: "g:"}).Verify(t.Context(), json.RawMessage(in))
		if err == nil && (CheckName(id.User) != nil || !strings.HasPrefix(id.User, "g:")) {
			t.Errorf("%q is %q", in, id.User)
		}
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", in, err)
		}
	})
}
