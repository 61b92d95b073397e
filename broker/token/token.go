// Package token signs and verifies the tokens that clients carry from the
// login to a node.
//
// A token is a JWT, but only one kind of it: EdDSA, a header of exactly alg,
// kid and typ, and the claims of proto.Claims. Whoever verifies holds public
// keys only. The JWT library checks the signature; everything it lets pass
// that this protocol does not is refused here.
package token

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
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
	kid, err := readHeader(raw, proto.TokenType)
	if err != nil {
		return proto.Claims{}, err
	}
	key, err := v.Keys.PublicKey(ctx, kid)
	if err != nil {
		return proto.Claims{}, err
	}
	var c strictClaims
	if _, err := parser.ParseWithClaims(raw, &c, func(*jwt.Token) (any, error) { return key, nil }); err != nil {
		return proto.Claims{}, classify(err)
	}
	if c.ID == "" { // encoding/json takes null without asking UnmarshalJSON
		return proto.Claims{}, fmt.Errorf("%w: claims: not a JSON object", ErrMalformed)
	}
	if err := v.checkTimes(proto.Claims(c)); err != nil {
		if errors.Is(err, ErrExpired) {
			return proto.Claims(c), err
		}
		return proto.Claims{}, err
	}
	return proto.Claims(c), nil
}

// parser checks the signature. The times are checked by checkTimes, because
// the library cannot tell a token that is only expired from one that is
// expired and wrong.
var parser = jwt.NewParser(
	jwt.WithValidMethods([]string{proto.TokenAlg}),
	jwt.WithStrictDecoding(),
	jwt.WithoutClaimsValidation(),
)

// classify turns an error of the library into one of ours.
func classify(err error) error {
	switch {
	case errors.Is(err, ErrInvalid): // from reading the claims
		return err
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return ErrSignature
	}
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}

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
	fields, err := decodeObject(segment)
	if err != nil {
		return "", fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	return checkHeader(fields, typ)
}

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
