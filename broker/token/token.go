// Package token signs and verifies the tokens that clients carry from the
// login to a node.
//
// A token is a JWT, but only one kind of it: EdDSA, a header of exactly alg,
// kid and typ, and the claims of proto.Claims. Whoever verifies holds public
// keys only. The JWT library checks the signature; the rest, where the
// protocol is stricter than it, is read here.
package token

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/usher-broker/usher/proto"
)

// Errors of Verify. All but ErrUnavailable wrap ErrInvalid.
var (
	ErrInvalid    = errors.New("invalid token")
	ErrMalformed  = fmt.Errorf("%w: malformed", ErrInvalid)
	ErrSignature  = fmt.Errorf("%w: wrong signature", ErrInvalid)
	ErrUnknownKey = fmt.Errorf("%w: unknown key", ErrInvalid)
	ErrExpired    = fmt.Errorf("%w: expired", ErrInvalid)
	ErrNotYet     = fmt.Errorf("%w: not valid yet", ErrInvalid)
	ErrClaims     = fmt.Errorf("%w: claims", ErrInvalid)

	// ErrUnavailable says nothing about the token: the keys to judge it by
	// could not be had. The client may try again.
	ErrUnavailable = errors.New("token keys unavailable")
)

// Keys finds public keys by their id. A key that does not exist is
// ErrUnknownKey, one that could not be looked for ErrUnavailable.
// Implementations are safe for concurrent use.
type Keys interface {
	PublicKey(ctx context.Context, kid string) (ed25519.PublicKey, error)
}

// Defaults of a Verifier.
const (
	DefaultMaxLifetime = 24 * time.Hour
	DefaultLeeway      = 30 * time.Second
)

// Verifier checks tokens. Keys is required. It is safe for concurrent use
// while its fields are left alone.
type Verifier struct {
	Keys Keys

	// MaxLifetime bounds the time between iat and exp. Default 24 h.
	MaxLifetime time.Duration

	// Leeway is how far the clocks of issuer and verifier may be apart: it is
	// granted to iat, nbf and exp. Default 30 s; negative for none.
	Leeway time.Duration

	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Verify returns the claims of a good token. For one that is good in all but
// its age it returns the claims together with ErrExpired. Every other error
// comes with no claims.
func (v *Verifier) Verify(ctx context.Context, raw string) (proto.Claims, error) {
	return v.VerifyUnless(ctx, raw, nil)
}

// A Fingerprint stands for one token, to the last byte, and the key that it was
// verified with.
type Fingerprint [sha256.Size]byte

// VerifyUnless is Verify, but that it does not check the signature, which is most of
// the work, of a token that is known: one of which Verify, with the same
// fingerprint, has found the signature good before. known is asked with claims that
// nobody vouches for yet.
func (v *Verifier) VerifyUnless(ctx context.Context, raw string, known func(proto.Claims, Fingerprint) bool) (proto.Claims, error) {
	key, err := v.keyOf(ctx, raw, proto.TokenType)
	if err != nil {
		return proto.Claims{}, err
	}
	var c strictClaims
	payload, err := decodeSegment(payloadOf(raw))
	if err == nil {
		err = c.read(payload)
	}
	if err != nil {
		if !errors.Is(err, ErrInvalid) {
			err = fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		return proto.Claims{}, err
	}
	if known == nil || !known(proto.Claims(c), fingerprint(key, raw)) {
		if err := checkSignature(raw, key); err != nil {
			return proto.Claims{}, err
		}
	}
	if err := v.checkTimes(proto.Claims(c)); err != nil {
		if errors.Is(err, ErrExpired) {
			return proto.Claims(c), err
		}
		return proto.Claims{}, err
	}
	return proto.Claims(c), nil
}

// keyOf checks the form of a token and returns the key that it names.
func (v *Verifier) keyOf(ctx context.Context, raw, typ string) (ed25519.PublicKey, error) {
	kid, err := readHeader(raw, typ)
	if err != nil {
		return nil, err
	}
	return v.Keys.PublicKey(ctx, kid)
}

// payloadOf returns the second of three segments.
func payloadOf(raw string) string {
	return raw[strings.IndexByte(raw, '.')+1 : strings.LastIndexByte(raw, '.')]
}

func checkSignature(raw string, key ed25519.PublicKey) error {
	at := strings.LastIndexByte(raw, '.')
	signature, err := decodeSegment(raw[at+1:])
	if err != nil {
		return fmt.Errorf("%w: signature: %w", ErrMalformed, err)
	}
	if jwt.SigningMethodEdDSA.Verify(raw[:at], signature, key) != nil {
		return ErrSignature
	}
	return nil
}

func fingerprint(key ed25519.PublicKey, raw string) Fingerprint {
	h := sha256.New()
	h.Write(key) // of one length
	h.Write([]byte(raw))
	return Fingerprint(h.Sum(nil))
}

// decodeSegment decodes a part of a token, of which each has one spelling.
func decodeSegment(s string) ([]byte, error) { return base64.RawURLEncoding.Strict().DecodeString(s) }

// readHeader checks the form of a token and returns the id of its key.
func readHeader(raw, typ string) (kid string, err error) {
	if len(raw) > proto.MaxTokenBytes {
		return "", fmt.Errorf("%w: %d bytes, more than %d", ErrMalformed, len(raw), proto.MaxTokenBytes)
	}
	// Base64 decoders pass over line breaks, which would give one token many
	// spellings.
	if i := strings.IndexFunc(raw, notTokenChar); i >= 0 {
		return "", fmt.Errorf("%w: byte %d does not belong in a token", ErrMalformed, i)
	}
	if n := strings.Count(raw, "."); n != 2 {
		return "", fmt.Errorf("%w: %d parts, not 3", ErrMalformed, n+1)
	}
	segment, _, _ := strings.Cut(raw, ".")
	if h := lastHeader.Load(); h != nil && h.segment == segment && h.typ == typ {
		return h.kid, nil
	}
	fields, err := decodeObject(segment)
	if err != nil {
		return "", fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	if kid, err = checkHeader(fields, typ); err == nil {
		lastHeader.Store(&knownHeader{strings.Clone(segment), typ, kid})
	}
	return kid, err
}

// knownHeader is a header that was found good. What says so depends on nothing else,
// and all tokens of one key have the same.
type knownHeader struct{ segment, typ, kid string }

var lastHeader atomic.Pointer[knownHeader]

func notTokenChar(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_', r == '.':
		return false
	}
	return true
}

// checkHeader admits exactly alg, kid and typ: every other member either
// brings its own key (jwk, jku, x5c, x5u) or changes what is signed (crit, b64).
func checkHeader(fields object, want string) (kid string, err error) {
	var alg, typ string
	for name := range fields {
		switch name {
		case "alg":
			err = fields.string("alg", &alg)
		case "kid":
			err = fields.string("kid", &kid)
		case "typ":
			err = fields.string("typ", &typ)
		default:
			err = fmt.Errorf("%q has no place in it", name)
		}
		if err != nil {
			return "", fmt.Errorf("%w: header: %w", ErrMalformed, err)
		}
	}
	switch {
	case alg != proto.TokenAlg:
		return "", fmt.Errorf("%w: header: alg is %q, not %s", ErrMalformed, alg, proto.TokenAlg)
	case typ != want:
		return "", fmt.Errorf("%w: header: typ is %q, not %s", ErrMalformed, typ, want)
	case kid == "" || len(kid) > maxKidBytes:
		return "", fmt.Errorf("%w: header: kid of %d bytes", ErrMalformed, len(kid))
	}
	return kid, nil
}
