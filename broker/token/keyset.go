package token

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
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
