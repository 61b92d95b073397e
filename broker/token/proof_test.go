package token

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/vectors"
)

func TestProofVectors(t *testing.T) {
	for _, v := range vectors.Proofs() {
		t.Run(v.Name, func(t *testing.T) {
			n, err := VerifyProof(v.Proof, v.Act, v.Token, v.Thumbprint)
			switch {
			case v.Refused && (!errors.Is(err, ErrProof) || n != 0):
				t.Errorf("accepted, or refused with %v", err)
			case !v.Refused && (err != nil || n != v.N):
				t.Errorf("number %d, %v; want %d", n, err, v.N)
			}
			if v.Key == nil {
				return
			}
			var key map[string]string
			if err := json.Unmarshal(v.Key, &key); err != nil {
				t.Fatal(err)
			}
			delete(key, "d")
			public, err := json.Marshal(key)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := Thumbprint(public); err != nil || got != v.Thumbprint {
				t.Errorf("thumbprint %s, %v", got, err)
			}
			if _, err := Thumbprint(v.Key); !errors.Is(err, ErrProof) {
				t.Errorf("a private key is accepted as a public one: %v", err)
			}
		})
	}
}

// The example of RFC 8037, appendix A.3.
func TestThumbprintOfTheRFC(t *testing.T) {
	got, err := Thumbprint([]byte(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`))
	if want := "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

func TestMutationsOfAProofAreRefused(t *testing.T) {
	for _, v := range vectors.Proofs() {
		if v.Refused {
			continue
		}
		last := len(v.Proof) - 1
		for i := range v.Proof {
			for _, c := range []byte("A_-.=\n9") {
				for _, raw := range []string{v.Proof[:i] + string(c) + v.Proof[i+1:], v.Proof[:i] + string(c) + v.Proof[i:]} {
					if n, err := VerifyProof(raw, v.Act, v.Token, v.Thumbprint); err == nil && raw != v.Proof {
						t.Fatalf("%s: accepted with number %d: %q", v.Name, n, raw)
					}
				}
			}
		}
		if _, err := VerifyProof(v.Proof[:last], v.Act, v.Token, v.Thumbprint); err == nil {
			t.Errorf("%s: accepted without its last character", v.Name)
		}
	}
}

func TestConfirmationInTokens(t *testing.T) {
	thumb := strings.Repeat("A", 43)
	c, err := testVerifier().Verify(t.Context(), mint(goodHeader, payload(t, map[string]any{"cnf": map[string]string{"jkt": thumb}})))
	if err != nil || c.Confirm != (proto.Confirmation{Thumbprint: thumb}) {
		t.Errorf("%+v, %v", c.Confirm, err)
	}
	for name, cnf := range map[string]any{
		"null": json.RawMessage("null"), "text": thumb, "empty": map[string]string{}, "another way": map[string]string{"x5t#S256": thumb},
		"two ways": map[string]string{"jkt": thumb, "kid": "a"}, "short": map[string]string{"jkt": thumb[1:]}, "not canonical": map[string]string{"jkt": thumb[1:] + "B"},
		"a number": map[string]int{"jkt": 1},
	} {
		if _, err := testVerifier().Verify(t.Context(), mint(goodHeader, payload(t, map[string]any{"cnf": cnf}))); !errors.Is(err, ErrClaims) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzVerifyProof(f *testing.F) {
	good := map[string]bool{}
	for _, v := range vectors.Proofs() {
		f.Add(v.Proof)
	}
	v := vectors.Proofs()[0]
	for _, other := range vectors.Proofs() { // some are valid, for another act
		_, err := VerifyProof(other.Proof, v.Act, v.Token, v.Thumbprint)
		good[other.Proof] = err == nil
	}
	f.Fuzz(func(t *testing.T, raw string) {
		n, err := VerifyProof(raw, v.Act, v.Token, v.Thumbprint)
		if err == nil && !good[raw] {
			t.Errorf("accepted with number %d: %q", n, raw)
		}
		if err != nil && !errors.Is(err, ErrProof) {
			t.Errorf("%q: %v", raw, err)
		}
	})
}

func BenchmarkVerifyProof(b *testing.B) {
	for _, v := range vectors.Proofs() {
		if v.Refused || v.Act != proto.ProofAttach || v.Key == nil {
			continue
		}
		b.Run(strings.Fields(v.Name)[0][:5], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := VerifyProof(v.Proof, v.Act, v.Token, v.Thumbprint); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
