// Package token signs and verifies the tokens that clients carry from the login to
// a node.
//
// A token is a JWT of one kind only: signed with EdDSA, with a header of exactly alg,
// kid and typ, and the claims of proto.Claims. A verifier has public keys only. The
// JWT library checks the signature. This package reads everything else, because the
// protocol is stricter than the library.
package token

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

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

// jsonRules are those of every JSON object that a token, a queue ticket or a proof
// contains. Members that are not read, such as those of ext, may be any JSON.
var jsonRules = strictjson.Rules{Duplicates: strictjson.RefuseReadDuplicates}

// decodeObject reads the object of a segment.
func decodeObject(segment string) (strictjson.Object, error) {
	b, err := decodeSegment(segment)
	if err != nil {
		return strictjson.Object{}, err
	}
	return jsonRules.Parse(b)
}

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

// Limits of claims, in bytes and seconds.
const (
	maxIssuerBytes = 64
	maxIDBytes     = 128          // sid, jti
	maxKidBytes    = 128          // the header's kid
	maxTime        = 253402300799 // the last second of the year 9999
)

// strictClaims adds strict decoding to proto.Claims.
type strictClaims proto.Claims

var claimNames = []string{"iss", "aud", "sub", "sid", "nid", "ep", "iat", "nbf", "exp", "jti", "ext", "cnf"}

// read reads the claims. It ignores names that it does not know, because a later
// version may add claims. A name that differs from a known one only in case is an
// error, because some decoders would take one for the other.
func (c *strictClaims) read(b []byte) error {
	o, err := jsonRules.Parse(b)
	if err != nil {
		return fmt.Errorf("%w: claims: %w", ErrMalformed, err)
	}
	for name := range o.Names() {
		for _, known := range claimNames {
			if name != known && strings.EqualFold(name, known) {
				return fmt.Errorf("%w: %q looks like %q", ErrClaims, name, known)
			}
		}
	}
	r := strictClaims{
		Issuer:    o.String("iss"),
		Audience:  o.String("aud"),
		User:      o.String("sub"),
		Session:   o.String("sid"),
		Node:      o.String("nid"),
		ID:        o.String("jti"),
		Epoch:     o.Uint("ep", 1, proto.MaxCount),
		IssuedAt:  int64(o.Uint("iat", 1, maxTime)),
		NotBefore: int64(o.Uint("nbf", 1, maxTime)),
		Expires:   int64(o.Uint("exp", 1, maxTime)),
		Ext:       readExt(o),
		Confirm:   readConfirm(o),
	}
	if err := o.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrClaims, err)
	}
	if err := r.check(); err != nil {
		return err
	}
	*c = r
	return nil
}

func checkText(name, s string, limit int) error {
	if s == "" || len(s) > limit {
		return fmt.Errorf("%s has %d bytes, want 1 to %d", name, len(s), limit)
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%s contains a control character", name)
	}
	return nil
}

func checkNumber(name string, n, limit uint64) error {
	if n < 1 || n > limit {
		return fmt.Errorf("%s is not a whole number from 1 to %d", name, limit)
	}
	return nil
}

// check returns the error that read would return for the claims, except for ext.
func (c *strictClaims) check() error {
	err := errors.Join(
		checkText("iss", c.Issuer, maxIssuerBytes),
		checkText("sub", c.User, proto.MaxNameBytes),
		checkText("sid", c.Session, maxIDBytes),
		checkText("nid", c.Node, proto.MaxNameBytes),
		checkText("jti", c.ID, maxIDBytes),
		checkNumber("ep", c.Epoch, proto.MaxCount),
		checkNumber("iat", uint64(c.IssuedAt), maxTime),
		checkNumber("nbf", uint64(c.NotBefore), maxTime),
		checkNumber("exp", uint64(c.Expires), maxTime),
	)
	switch {
	case err != nil:
	case c.Audience != proto.TokenAudience:
		err = fmt.Errorf("aud is %q, want %s", c.Audience, proto.TokenAudience)
	case c.Confirm != proto.Confirmation{} && !c.Confirm.Valid():
		err = errors.New("cnf is not the thumbprint of a key")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrClaims, err)
	}
	return nil
}

// readExt returns the optional ext as it was written.
func readExt(o strictjson.Object) json.RawMessage {
	ext := o.Raw("ext")
	if len(ext) > proto.MaxExtBytes {
		o.Fail("ext", fmt.Sprintf("%d bytes, expected at most %d", len(ext), proto.MaxExtBytes))
	}
	return bytes.Clone(ext) // not to keep the rest of the token
}

// readConfirm reads the optional cnf, of which only the member jkt is supported. A
// token that is bound in another way must not be accepted as a token that is not bound.
func readConfirm(o strictjson.Object) (c proto.Confirmation) {
	if !o.Has("cnf") {
		return c
	}
	cnf := o.Object("cnf")
	cnf.Only("jkt")
	c.Thumbprint = cnf.String("jkt")
	if !c.Valid() {
		cnf.Fail("jkt", "expected the thumbprint of a key")
	}
	return c
}

// checkTimes checks the times of authentic claims. Of several faults it reports
// ErrExpired last, because Verify returns the claims with it.
func (v *Verifier) checkTimes(c proto.Claims) error {
	leeway, t, longest := v.leeway(), v.now(), v.MaxLifetime
	if longest == 0 {
		longest = DefaultMaxLifetime
	}
	switch {
	case c.Expires <= c.IssuedAt || c.Expires <= c.NotBefore:
		return fmt.Errorf("%w: exp is not after iat and nbf", ErrClaims)
	case c.Expires-c.IssuedAt > int64(longest/time.Second):
		return fmt.Errorf("%w: lifetime of %d s, longer than %s", ErrClaims, c.Expires-c.IssuedAt, longest)
	case time.Unix(c.IssuedAt, 0).After(t.Add(leeway)):
		return fmt.Errorf("%w: issued in the future", ErrNotYet)
	case time.Unix(c.NotBefore, 0).After(t.Add(leeway)):
		return ErrNotYet
	case !t.Before(time.Unix(c.Expires, 0).Add(leeway)):
		return ErrExpired
	}
	return nil
}

func (v *Verifier) now() time.Time {
	if v.Now != nil {
		return v.Now()
	}
	return time.Now()
}

func (v *Verifier) leeway() time.Duration {
	if v.Leeway == 0 {
		return DefaultLeeway
	}
	return max(v.Leeway, 0)
}
