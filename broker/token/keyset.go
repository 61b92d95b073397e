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

// KeySet holds the private keys that sign tokens. There may be several: a new
// key is published at once but signs only when it is older than the overlap,
// so that by then every verifier has it; then it takes over from the older
// ones, which stay published until somebody removes them from the file. It is
// safe for concurrent use.
type KeySet struct {
	path    string // "" for keys in memory
	overlap time.Duration
	log     *slog.Logger
	state   atomic.Pointer[keys]
}

// keys is one reading of the file.
type keys struct {
	all    []signingKey // oldest first
	public map[string]ed25519.PublicKey
	jwks   []byte
	file   []byte // what was read
}

type signingKey struct {
	header       string // the encoded header of its tokens
	ticketHeader string // and of its tickets
	private      ed25519.PrivateKey
	made         time.Time
}

// NewKeySet returns a set of one new key that exists in memory only.
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

// Sign returns the claims as a token. Claims that Verify would not take,
// whatever the clock says, are ErrClaims.
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
		return "", fmt.Errorf("%w: a token of %d bytes, more than %d", ErrClaims, len(raw), proto.MaxTokenBytes)
	}
	return raw, nil
}

// signing returns the newest key older than the overlap, or else the oldest.
func (s *keys) signing(now time.Time, overlap time.Duration) signingKey {
	for _, key := range slices.Backward(s.all) {
		if now.Sub(key.made) >= overlap {
			return key
		}
	}
	return s.all[0]
}

// PublicKey returns the public part of one of the keys, which makes a KeySet
// the Keys of a verifier in the same process.
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
			made:    time.Unix(k.Made, 0), // a key that does not say when it was made counts as old
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
