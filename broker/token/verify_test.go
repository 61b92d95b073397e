package token

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

func TestVerifyReturnsTheClaims(t *testing.T) {
	for name, changes := range map[string]map[string]any{
		"plain":                     nil,
		"ext":                       {"ext": map[string]any{"team": "red"}},
		"unknown claim":             {"later": true},
		"skewed clock of issuer":    {"iat": moment + 29, "nbf": moment + 29},
		"just expired, within skew": {"iat": moment - 100, "nbf": moment - 100, "exp": moment - 29},
		"longest lifetime":          {"exp": moment + 86400},
		"longest names":             {"sub": longName(proto.MaxNameBytes), "nid": longName(proto.MaxNameBytes)},
		"largest epoch":             {"ep": uint64(proto.MaxCount)},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := testVerifier().Verify(t.Context(), mint(goodHeader, payload(t, changes)))
			if err != nil {
				t.Fatal(err)
			}
			if changes["sub"] == nil && c.User != "ada" || c.Node == "" || c.Epoch == 0 || c.Session != goodClaims().Session {
				t.Errorf("claims are %+v", c)
			}
		})
	}
}

func longName(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'n'
	}
	return string(b)
}

func TestVerifyReturnsTheClaimsOfAnExpiredToken(t *testing.T) {
	old := payload(t, map[string]any{"iat": moment - 7200, "nbf": moment - 7200, "exp": moment - 31})
	c, err := testVerifier().Verify(t.Context(), mint(goodHeader, old))
	if !errors.Is(err, ErrExpired) || !errors.Is(err, ErrInvalid) {
		t.Fatalf("error is %v", err)
	}
	if c.User != "ada" || c.Expires != moment-31 {
		t.Errorf("claims are %+v", c)
	}
	forged := signWith(pair(2), b64(goodHeader)+"."+b64(old))
	if c, err := testVerifier().Verify(t.Context(), forged); !errors.Is(err, ErrSignature) || !reflect.DeepEqual(c, proto.Claims{}) {
		t.Errorf("forged and expired: %+v, %v", c, err)
	}
}

func TestLeewayAndLifetimeAreSettings(t *testing.T) {
	v := testVerifier()
	v.Leeway = -1
	raw := mint(goodHeader, payload(t, map[string]any{"iat": moment - 10, "nbf": moment - 10, "exp": moment}))
	if _, err := v.Verify(t.Context(), raw); !errors.Is(err, ErrExpired) {
		t.Errorf("without leeway: %v", err)
	}
	v.Leeway = time.Second
	if _, err := v.Verify(t.Context(), raw); err != nil {
		t.Errorf("with a second of leeway: %v", err)
	}
	v.MaxLifetime = 9 * time.Second
	if _, err := v.Verify(t.Context(), raw); !errors.Is(err, ErrClaims) {
		t.Errorf("lifetime of 10 s where 9 are allowed: %v", err)
	}
}

func TestUnavailableKeysDoNotMakeATokenInvalid(t *testing.T) {
	v := &Verifier{Keys: noKeys{}, Now: atMoment}
	_, err := v.Verify(t.Context(), mint(goodHeader, payload(t, nil)))
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrInvalid) {
		t.Errorf("error is %v", err)
	}
}

// Every byte of a token counts: no other encoding of it is accepted.
func TestMutationsOfAValidTokenAreRefused(t *testing.T) {
	v, good := testVerifier(), mint(goodHeader, payload(t, nil))
	refused := 0
	try := func(raw string) {
		if raw == good {
			return
		}
		refused++
		if _, err := v.Verify(context.Background(), raw); !errors.Is(err, ErrInvalid) {
			t.Fatalf("accepted, or refused with %v: %q", err, raw)
		}
	}
	for i := range len(good) {
		try(good[:i] + good[i+1:])
		try(good[:i] + good[i:i+1] + good[i:])
		for bit := range 8 {
			try(good[:i] + string([]byte{good[i] ^ 1<<bit}) + good[i+1:])
		}
		for _, c := range []byte("A_-.=\n\x00 \xff") {
			try(good[:i] + string([]byte{c}) + good[i:])
			try(good[:i] + string([]byte{c}) + good[i+1:])
		}
		try(good[:i])
		try(good[i:] + good[:i])
	}
	if refused < 5000 {
		t.Errorf("only %d mutations", refused)
	}
	if _, err := v.Verify(context.Background(), good); err != nil {
		t.Fatal(err)
	}
}

func FuzzVerify(f *testing.F) {
	v, good := testVerifier(), mint(goodHeader, payload(f, nil))
	f.Add(good)
	for _, c := range corpus(f) {
		f.Add(c.Raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := v.Verify(t.Context(), raw)
		switch {
		case err == nil && raw != good:
			// Only the holder of the key can make another valid token.
			t.Errorf("accepted: %q", raw)
		case err != nil && !errors.Is(err, ErrInvalid):
			t.Errorf("%q: %v", raw, err)
		case err != nil && !errors.Is(err, ErrExpired) && !reflect.DeepEqual(c, proto.Claims{}):
			t.Errorf("claims with %v", err)
		}
	})
}

// FuzzClaims signs any claims: those that Verify returns must obey the rules.
func FuzzClaims(f *testing.F) {
	v := testVerifier()
	f.Add(payload(f, nil))
	f.Add(`{"a":1,"a":2}`)
	f.Add(`{"iss":"x","ep":1e3}`)
	f.Fuzz(func(t *testing.T, claims string) {
		c, err := v.Verify(t.Context(), mint(goodHeader, claims))
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%q: %v", claims, err)
			}
			return
		}
		if c.Audience != "usher" || c.User == "" || len(c.User) > proto.MaxNameBytes || c.Epoch == 0 ||
			c.Expires <= moment-30 || c.Expires > moment+86400+30 || c.ID == "" || c.Issuer == "" {
			t.Errorf("accepted: %+v", c)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	k, err := NewKeySet()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Sign(goodClaims()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	v, raw := testVerifier(), mint(goodHeader, payload(b, nil))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRefuseGarbage(b *testing.B) {
	v, raw := testVerifier(), longName(proto.MaxTokenBytes)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), raw); err == nil {
			b.Fatal("accepted")
		}
	}
}
