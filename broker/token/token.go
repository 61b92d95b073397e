// Package token signs and verifies the tokens that clients carry from the login to
// a node.
//
// A token is a JWT of one kind only: signed with EdDSA, with a header of exactly alg,
// kid and typ, and the claims of proto.Claims. A verifier has public keys only. The
// JWT library checks the signature. This package reads everything else, because the
// protocol is stricter than the library.
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
	"github.com/usher-broker/usher/proto/strictjson"
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

	// ErrUnavailable says nothing about the token: the keys to verify it with
	// could not be read. The client may try again.
	ErrUnavailable = errors.New("token keys unavailable")
)

// Keys finds public keys by their id. The error is ErrUnknownKey if the key does not
// exist, and ErrUnavailable if the keys could not be read. Implementations are safe
// for concurrent use.
type Keys interface {
	PublicKey(ctx context.Context, kid string) (ed25519.PublicKey, error)
}

// Defaults of a Verifier.
const (
	DefaultMaxLifetime = 24 * time.Hour
	DefaultLeeway      = 30 * time.Second
)

// Verifier verifies tokens. Keys is required. A Verifier is safe for concurrent use
// as long as its fields do not change.
type Verifier struct {
	Keys Keys

	// MaxLifetime is the longest time between iat and exp. Default 24 h.
	MaxLifetime time.Duration

	// Leeway is how far the clocks of issuer and verifier may be apart. It applies
	// to iat, nbf and exp. Default 30 s; negative for none.
	Leeway time.Duration

	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Verify returns the claims of a valid token. If the token has expired and is valid
// otherwise, it returns the claims and ErrExpired. With every other error it returns
// no claims.
func (v *Verifier) Verify(ctx context.Context, raw string) (proto.Claims, error) {
	return v.VerifyUnless(ctx, raw, nil)
}

// Fingerprint identifies the exact bytes of a token, and the key that it was verified
// with.
type Fingerprint [sha256.Size]byte

// VerifyUnless does what Verify does, but skips the check of the signature, which is
// most of the work, if known returns true. known must return true only if an earlier
// verification of a token with the same fingerprint has found the signature valid.
// The claims that known receives are not verified yet.
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

// keyOf checks the form of a token of the type, and returns the key that it names.
func (v *Verifier) keyOf(ctx context.Context, raw, typ string) (ed25519.PublicKey, error) {
	kid, err := readHeader(raw, typ)
	if err != nil {
		return nil, err
	}
	return v.Keys.PublicKey(ctx, kid)
}

// payloadOf returns the second of the three segments.
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
	h.Write(key) // all keys have the same length
	h.Write([]byte(raw))
	return Fingerprint(h.Sum(nil))
}

// decodeSegment decodes a segment of a token. It accepts only the one canonical
// encoding of the bytes.
func decodeSegment(s string) ([]byte, error) { return base64.RawURLEncoding.Strict().DecodeString(s) }

// readHeader checks the form of a token of the type, and returns the id of its key.
func readHeader(raw, typ string) (kid string, err error) {
	if len(raw) > proto.MaxTokenBytes {
		return "", fmt.Errorf("%w: %d bytes, more than %d", ErrMalformed, len(raw), proto.MaxTokenBytes)
	}
	// Base64 decoders ignore line breaks, so that one token would have many
	// encodings.
	if i := strings.IndexFunc(raw, notTokenChar); i >= 0 {
		return "", fmt.Errorf("%w: byte %d is not allowed in a token", ErrMalformed, i)
	}
	if n := strings.Count(raw, "."); n != 2 {
		return "", fmt.Errorf("%w: %d parts, want 3", ErrMalformed, n+1)
	}
	segment, _, _ := strings.Cut(raw, ".")
	if h := lastHeader.Load(); h != nil && h.segment == segment && h.typ == typ {
		return h.kid, nil
	}
	o, err := decodeObject(segment)
	if err != nil {
		return "", fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	if kid, err = checkHeader(o, typ); err == nil {
		lastHeader.Store(&knownHeader{strings.Clone(segment), typ, kid})
	}
	return kid, err
}

// knownHeader is a header that was found valid. All tokens of one key have the same
// header, and whether it is valid depends on nothing else.
type knownHeader struct{ segment, typ, kid string }

var lastHeader atomic.Pointer[knownHeader]

func notTokenChar(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_', r == '.':
		return false
	}
	return true
}

// checkHeader accepts exactly alg, kid and typ. Other members either bring their own
// key (jwk, jku, x5c, x5u) or change what is signed (crit, b64).
func checkHeader(o strictjson.Object, want string) (kid string, err error) {
	o.Only("alg", "kid", "typ")
	alg, typ := o.String("alg"), o.String("typ")
	kid = o.String("kid")
	if err := o.Err(); err != nil {
		return "", fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	switch {
	case alg != proto.TokenAlg:
		return "", fmt.Errorf("%w: header: alg is %q, want %s", ErrMalformed, alg, proto.TokenAlg)
	case typ != want:
		return "", fmt.Errorf("%w: header: typ is %q, want %s", ErrMalformed, typ, want)
	case kid == "" || len(kid) > maxKidBytes:
		return "", fmt.Errorf("%w: header: kid has %d bytes, want 1 to %d", ErrMalformed, len(kid), maxKidBytes)
	}
	return kid, nil
}
