package token

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/usher-broker/usher/broker/token/tokentest"
	"github.com/usher-broker/usher/proto"
)

func testMint(t testing.TB) tokentest.Mint {
	t.Helper()
	m := tokentest.Mint{Key: pair(1), Kid: "k1", Now: moment}
	if err := json.Unmarshal([]byte(payload(t, nil)), &m.Claims); err != nil {
		t.Fatal(err)
	}
	return m
}

func corpus(t testing.TB) []tokentest.Forgery { return testMint(t).Corpus() }

var kinds = map[string]error{
	tokentest.Malformed: ErrMalformed, tokentest.Signature: ErrSignature, tokentest.UnknownKey: ErrUnknownKey,
	tokentest.Claims: ErrClaims, tokentest.NotYet: ErrNotYet,
}

func TestCorpus(t *testing.T) {
	if _, err := testVerifier().Verify(t.Context(), testMint(t).Good()); err != nil {
		t.Fatalf("the valid token: %v", err)
	}
	list := corpus(t)
	if len(list) < 120 {
		t.Errorf("only %d cases", len(list))
	}
	seen := make(map[string]bool)
	for _, c := range list {
		if seen[c.Name] {
			t.Errorf("two cases are named %q", c.Name)
		}
		seen[c.Name] = true
		t.Run(c.Name, func(t *testing.T) {
			claims, err := testVerifier().Verify(t.Context(), c.Raw)
			if !errors.Is(err, kinds[c.Want]) || !errors.Is(err, ErrInvalid) {
				t.Fatalf("error is %v, want %v", err, c.Want)
			}
			if !reflect.DeepEqual(claims, proto.Claims{}) {
				t.Errorf("claims with the error: %+v", claims)
			}
			if msg := err.Error(); len(msg) > 1000 || strings.ContainsAny(msg, "\r\x00") {
				t.Errorf("message is %q", msg)
			}
		})
	}
}

// A million tokens that differ in one to four bytes from a valid token or from a token
// of the corpus: none is accepted. Without USHER_SLOW the test tries a twentieth of them.
func TestMillionMutations(t *testing.T) {
	n := 50_000
	if os.Getenv("USHER_SLOW") != "" {
		n = 1_000_000
	}
	v, m := testVerifier(), testMint(t)
	seeds := []string{m.Good()}
	for _, c := range m.Corpus() {
		seeds = append(seeds, c.Raw)
	}
	good := seeds[0]
	r := rand.New(rand.NewPCG(1, 2))
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\x00\xff"
	kinds := map[error]int{}
	for range n {
		seed := good
		if r.IntN(4) == 0 {
			seed = seeds[r.IntN(len(seeds))]
		}
		raw := []byte(seed)
		for range 1 + r.IntN(4) {
			at := r.IntN(len(raw) + 1)
			c := letters[r.IntN(len(letters))]
			switch r.IntN(4) {
			case 0:
				raw = append(raw[:at], append([]byte{c}, raw[at:]...)...)
			case 1:
				if at < len(raw) {
					raw = append(raw[:at], raw[at+1:]...)
				}
			default:
				if at < len(raw) {
					raw[at] = c
				}
			}
		}
		if string(raw) == good {
			continue
		}
		claims, err := v.Verify(context.Background(), string(raw))
		if !errors.Is(err, ErrInvalid) || !reflect.DeepEqual(claims, proto.Claims{}) {
			t.Fatalf("accepted, or refused with %v: %q", err, raw)
		}
		for _, kind := range []error{ErrMalformed, ErrSignature, ErrUnknownKey, ErrClaims} {
			if errors.Is(err, kind) {
				kinds[kind]++
			}
		}
	}
	t.Logf("%d refused: %v", n, kinds)
}
