package token

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/usher-broker/usher/proto"
)

// maxSetBytes is the largest JWK Set that is read, from any source.
const maxSetBytes = 1 << 20

// jwk is a JSON Web Key for Ed25519 (RFC 8037).
type jwk struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv"`
	ID        string `json:"kid"`
	Algorithm string `json:"alg,omitempty"`
	Use       string `json:"use,omitempty"`
	X         string `json:"x"`             // the public key
	D         string `json:"d,omitempty"`   // the private key; never published
	Made      int64  `json:"iat,omitempty"` // when the key was made, in seconds since the Unix epoch
}

type jwkSet struct {
	Keys []json.RawMessage `json:"keys"`
}

// eachKey calls f for every key of the set that is meant to sign tokens, and skips
// keys of other kinds. It returns an error if the set has no such key.
func eachKey(set []byte, f func(jwk, ed25519.PublicKey) error) error {
	if len(set) > maxSetBytes {
		return fmt.Errorf("the key set has more than %d bytes", maxSetBytes)
	}
	var s jwkSet
	if err := json.Unmarshal(set, &s); err != nil {
		return fmt.Errorf("not a JWK Set: %w", withoutInput(err))
	}
	seen := make(map[string]bool)
	for i, raw := range s.Keys {
		var k jwk
		if err := json.Unmarshal(raw, &k); err != nil {
			return fmt.Errorf("key %d: %w", i, withoutInput(err))
		}
		if k.Type != "OKP" || k.Curve != "Ed25519" || k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != proto.TokenAlg {
			continue
		}
		public, err := decodeKey(k.X, ed25519.PublicKeySize)
		switch {
		case err != nil:
			return fmt.Errorf("key %d: x: %w", i, err)
		case k.ID == "" || len(k.ID) > maxKidBytes:
			return fmt.Errorf("key %d: its kid has %d bytes, want 1 to %d", i, len(k.ID), maxKidBytes)
		case seen[k.ID]:
			return fmt.Errorf("key %d: kid %q twice", i, k.ID)
		}
		seen[k.ID] = true
		if err := f(k, public); err != nil {
			return fmt.Errorf("key %q: %w", k.ID, err)
		}
	}
	if len(seen) == 0 {
		return errors.New("no Ed25519 key for signatures in the key set")
	}
	return nil
}

// withoutInput removes from an error of encoding/json what it quotes of the input,
// which may be a private key.
func withoutInput(err error) error {
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("wrong JSON at byte %d", e.Offset)
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%q has the wrong type", e.Field)
	}
	return errors.New("wrong JSON")
}

func decodeKey(s string, size int) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("not base64url without padding")
	}
	if len(b) != size {
		return nil, fmt.Errorf("%d bytes, want %d", len(b), size)
	}
	return b, nil
}

// newJWK returns the key as a JWK, with its RFC 7638 thumbprint as kid.
func newJWK(private ed25519.PrivateKey, made time.Time) jwk {
	x := base64.RawURLEncoding.EncodeToString(private.Public().(ed25519.PublicKey))
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return jwk{
		Type: "OKP", Curve: "Ed25519", Algorithm: proto.TokenAlg, Use: "sig",
		ID:   base64.RawURLEncoding.EncodeToString(sum[:]),
		X:    x,
		D:    base64.RawURLEncoding.EncodeToString(private.Seed()),
		Made: made.Unix(),
	}
}

// private returns the private key. It returns an error if the key does not belong to
// public, because signatures of a pair that does not match reveal the private key.
func (k jwk) private(public ed25519.PublicKey) (ed25519.PrivateKey, error) {
	if k.D == "" {
		return nil, errors.New("has no private part (d)")
	}
	seed, err := decodeKey(k.D, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("d: %w", err)
	}
	private := ed25519.NewKeyFromSeed(seed)
	if !public.Equal(private.Public()) {
		return nil, errors.New("its private part does not belong to its public part")
	}
	return private, nil
}
