package usher

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/vectors"
)

func TestProofVectors(t *testing.T) {
	for _, v := range vectors.Proofs() {
		if v.Key == nil {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			p, err := newProver(privateKey(t, v.Key))
			if err != nil {
				t.Fatal(err)
			}
			if sum := sha256.Sum256(p.jwk); b64(sum[:]) != v.Thumbprint {
				t.Errorf("the key of the login, %s, does not have the thumbprint %s", p.jwk, v.Thumbprint)
			}
			p.last = v.N - 1
			if v.N < 1_795_000_000_000 {
				p.last = 1 << 60 // later than any clock
			}
			proof, err := p.prove(v.Act, v.Token)
			if err != nil {
				t.Fatal(err)
			}
			got, want := strings.Split(proof, "."), strings.Split(v.Proof, ".")
			if got[0] != want[0] {
				t.Errorf("header %s, want %s", unb64(t, got[0]), unb64(t, want[0]))
			}
			var a, b proto.Proof
			if err := errors.Join(json.Unmarshal(unb64(t, got[1]), &a), json.Unmarshal(unb64(t, want[1]), &b)); err != nil {
				t.Fatal(err)
			}
			if a.Act != b.Act || a.Token != b.Token || a.N != p.last {
				t.Errorf("claims %+v, want %+v", a, b)
			}
			text, signature := []byte(got[0]+"."+got[1]), unb64(t, got[2])
			switch public := p.key.Public().(type) {
			case ed25519.PublicKey:
				if !ed25519.Verify(public, text, signature) {
					t.Error("wrong signature")
				}
			case *ecdsa.PublicKey:
				sum := sha256.Sum256(text)
				r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
				if len(signature) != 64 || !ecdsa.Verify(public, sum[:], r, s) {
					t.Error("wrong signature")
				}
			}
		})
	}
}

func unb64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func privateKey(t *testing.T, jwk json.RawMessage) crypto.Signer {
	t.Helper()
	var k struct{ Crv, D string }
	if err := json.Unmarshal(jwk, &k); err != nil {
		t.Fatal(err)
	}
	d := unb64(t, k.D)
	if k.Crv == "Ed25519" {
		return ed25519.NewKeyFromSeed(d)
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestProofNumbersRise(t *testing.T) {
	p, err := newProver(nil)
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(0)
	for range 1000 {
		n := p.next()
		if n <= last || n > proto.MaxCount {
			t.Fatalf("%d after %d", n, last)
		}
		last = n
	}
}

func TestInvalidKeys(t *testing.T) {
	weak, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{weak, other} {
		if _, err := Connect(t.Context(), Config{Auth: "http://auth", Credentials: Guest("ada"), Key: key}); !errors.Is(err, errKey) {
			t.Errorf("%T: %v", key, err)
		}
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Connect(t.Context(), Config{Auth: "http://auth", Credentials: Guest("ada"), Key: key, NoKey: true}); err == nil {
		t.Error("no error for Key and NoKey")
	}
}
