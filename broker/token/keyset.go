package token

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/usher-broker/usher/proto"
)

// KeySet holds the private keys that sign tokens. There may be several. A new key is
// published at once, and begins to sign when it is older than the overlap, because by
// then every verifier knows it. The older keys stay published until the operator
// removes them from the file. A KeySet is safe for concurrent use.
type KeySet struct {
	path    string // "" for keys in memory
	overlap time.Duration
	log     *slog.Logger
	state   atomic.Pointer[keys]
}

// keys is the content of the file at one time.
type keys struct {
	all    []signingKey // oldest first
	public map[string]ed25519.PublicKey
	jwks   []byte
	file   []byte // as it was read
}

type signingKey struct {
	header       string // the encoded header of its tokens
	ticketHeader string // the encoded header of its queue tickets
	private      ed25519.PrivateKey
	made         time.Time
}

// NewKeySet returns a set with one new key, which is kept in memory only.
func NewKeySet() (*KeySet, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	file, err := encodeSet(newJWK(private, time.Now()))
	if err != nil {
		return nil, err
	}
	state, err := readKeys(file)
	if err != nil {
		return nil, err
	}
	k := &KeySet{log: slog.New(slog.DiscardHandler)}
	k.state.Store(state)
	return k, nil
}

// Sign returns a token with the claims. The error wraps ErrClaims if Verify would not
// accept the claims at any time.
func (k *KeySet) Sign(c proto.Claims) (string, error) {
	payload, err := encodeClaims(c)
	if err != nil {
		return "", err
	}
	key := k.state.Load().signing(time.Now(), k.overlap)
	text := key.header + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature, err := jwt.SigningMethodEdDSA.Sign(text, key.private)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	raw := text + "." + base64.RawURLEncoding.EncodeToString(signature)
	if len(raw) > proto.MaxTokenBytes {
		return "", fmt.Errorf("%w: a token of %d bytes, more than %d; make ext or the names shorter", ErrClaims, len(raw), proto.MaxTokenBytes)
	}
	return raw, nil
}

// encodeClaims encodes the claims. It returns an error for claims that no verifier
// would accept, so that the mistake shows at the issuer.
func encodeClaims(c proto.Claims) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it would make ext up to six times as long
	if err := e.Encode(c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	payload := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if c.Ext == nil {
		return payload, (*strictClaims)(&c).check()
	}
	return payload, new(strictClaims).read(payload)
}

// signing returns the key that signs: the newest one that is older than the overlap,
// or the oldest one if there is none.
func (s *keys) signing(now time.Time, overlap time.Duration) signingKey {
	for _, key := range slices.Backward(s.all) {
		if now.Sub(key.made) >= overlap {
			return key
		}
	}
	return s.all[0]
}

// PublicKey returns the public part of a key. It implements Keys, for a verifier in the
// same process.
func (k *KeySet) PublicKey(_ context.Context, kid string) (ed25519.PublicKey, error) {
	if key, ok := k.state.Load().public[kid]; ok {
		return key, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrUnknownKey, kid)
}

// JWKS returns the public keys as a JWK Set. The caller must not change it.
func (k *KeySet) JWKS() []byte { return k.state.Load().jwks }

// readKeys reads a JWK Set with private keys.
func readKeys(file []byte) (*keys, error) {
	s := &keys{public: make(map[string]ed25519.PublicKey), file: file}
	var published []jwk
	err := eachKey(file, func(k jwk, public ed25519.PublicKey) error {
		private, err := k.private(public)
		if err != nil {
			return err
		}
		header, err := encodeHeader(k.ID, proto.TokenType)
		if err != nil {
			return err
		}
		ticketHeader, err := encodeHeader(k.ID, proto.TicketType)
		if err != nil {
			return err
		}
		s.all = append(s.all, signingKey{
			header: header, ticketHeader: ticketHeader,
			private: private,
			made:    time.Unix(k.Made, 0), // a key without the time counts as old
		})
		s.public[k.ID] = public
		published = append(published, jwk{
			Type: k.Type, Curve: k.Curve, ID: k.ID, Algorithm: proto.TokenAlg, Use: "sig", X: k.X,
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(s.all, func(a, b signingKey) int { return a.made.Compare(b.made) })
	s.jwks, err = encodeSet(published...)
	return s, err
}

func encodeHeader(kid, typ string) (string, error) {
	header, err := json.Marshal(map[string]string{"alg": proto.TokenAlg, "kid": kid, "typ": typ})
	return base64.RawURLEncoding.EncodeToString(header), err
}

func encodeSet(list ...jwk) ([]byte, error) {
	b, err := json.Marshal(map[string][]jwk{"keys": list})
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

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
