package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/usher-broker/usher/proto"
)

// ErrProof is wrapped by the errors of a proof of possession, or of the key that
// one is to be made with.
var ErrProof = errors.New("invalid proof")

// A proof is a JWT that brings its public key along; the token says which key it
// must be. ES256 is what browsers have, Ed25519 what is cheaper elsewhere.
const (
	algES256 = "ES256"
	algEdDSA = "EdDSA"
)

// Thumbprint returns the thumbprint (RFC 7638) of a client's public key, which
// must be one that proofs can be made with: P-256 or Ed25519, with no member but
// those of the key itself.
func Thumbprint(jwk []byte) (string, error) {
	k, err := readProofKey(jwk)
	if err != nil {
		return "", err
	}
	return k.thumbprint, nil
}

// VerifyProof returns the number of a proof for the act, by whoever has the key of
// the thumbprint, with the token. Whether the number was used before is the
// caller's to find out.
func VerifyProof(raw, act, tok, thumbprint string) (n uint64, err error) {
	fail := func(format string, args ...any) (uint64, error) {
		return 0, fmt.Errorf("%w: %w", ErrProof, fmt.Errorf(format, args...))
	}
	if len(raw) > proto.MaxProofBytes {
		return fail("%d bytes, more than %d", len(raw), proto.MaxProofBytes)
	}
	if strings.IndexFunc(raw, notTokenChar) >= 0 || strings.Count(raw, ".") != 2 {
		return fail("not three parts of base64url")
	}
	parts := strings.Split(raw, ".")
	key, err := readProofHeader(parts[0])
	if err != nil {
		return 0, err
	}
	if key.thumbprint != thumbprint {
		return fail("another key than the token's")
	}
	p, err := readProof(parts[1])
	if err != nil {
		return 0, err
	}
	switch {
	case p.Act != act:
		return fail("made for %q, not %q", p.Act, act)
	case p.Token != proto.TokenHash(tok):
		return fail("made for another token")
	}
	signature, err := decodeSegment(parts[2])
	if err != nil {
		return fail("signature: %w", err)
	}
	if err := key.method.Verify(parts[0]+"."+parts[1], signature, key.public); err != nil {
		return fail("wrong signature")
	}
	return p.N, nil
}

// proofKey is a client's public key.
type proofKey struct {
	alg        string
	method     jwt.SigningMethod
	public     crypto.PublicKey
	thumbprint string
}

func readProofHeader(segment string) (k proofKey, err error) {
	fields, err := decodeObject(segment)
	if err != nil {
		return k, fmt.Errorf("%w: header: %w", ErrProof, err)
	}
	var alg, typ string
	for name := range fields {
		switch name {
		case "alg":
			err = fields.string("alg", &alg)
		case "typ":
			err = fields.string("typ", &typ)
		case "jwk":
			k, err = readProofKey(fields["jwk"])
		default:
			err = fmt.Errorf("%q has no place in it", name)
		}
		if err != nil {
			return k, fmt.Errorf("%w: header: %w", ErrProof, err)
		}
	}
	switch {
	case typ != proto.ProofType:
		return k, fmt.Errorf("%w: header: typ is %q, not %s", ErrProof, typ, proto.ProofType)
	case k.alg == "":
		return k, fmt.Errorf("%w: header: no jwk", ErrProof)
	case alg != k.alg:
		return k, fmt.Errorf("%w: header: alg is %q, and the key is for %s", ErrProof, alg, k.alg)
	}
	return k, nil
}

func readProof(segment string) (p proto.Proof, err error) {
	fields, err := decodeObject(segment)
	if err == nil {
		for name := range fields {
			if name != "act" && name != "ath" && name != "n" {
				err = fmt.Errorf("%q has no place in it", name)
			}
		}
	}
	if err == nil {
		err = errors.Join(fields.string("act", &p.Act), fields.string("ath", &p.Token), fields.number("n", proto.MaxCount, &p.N))
	}
	if err != nil {
		return p, fmt.Errorf("%w: %w", ErrProof, err)
	}
	return p, nil
}

// readProofKey reads a public JWK, which may have no member that its thumbprint
// does not cover: a private one least of all.
func readProofKey(jwk []byte) (k proofKey, err error) {
	fields, err := readObject(jwk)
	if err != nil {
		return k, fmt.Errorf("%w: key: %w", ErrProof, err)
	}
	var kty, crv string
	if err := errors.Join(fields.string("kty", &kty), fields.string("crv", &crv)); err != nil {
		return k, fmt.Errorf("%w: key: %w", ErrProof, err)
	}
	names := []string{"crv", "kty", "x"}
	switch {
	case kty == "EC" && crv == "P-256":
		names = append(names, "y")
		k.alg, k.method = algES256, jwt.SigningMethodES256
	case kty == "OKP" && crv == "Ed25519":
		k.alg, k.method = algEdDSA, jwt.SigningMethodEdDSA
	default:
		return proofKey{}, fmt.Errorf("%w: key: kty %.20q with crv %.20q; it must be EC with P-256 or OKP with Ed25519", ErrProof, kty, crv)
	}
	if len(fields) != len(names) {
		return proofKey{}, fmt.Errorf("%w: key: it must have exactly %s", ErrProof, strings.Join(names, ", "))
	}
	x, err := fields.coordinate("x")
	if err == nil && k.alg == algEdDSA {
		k.public = ed25519.PublicKey(x)
	} else if err == nil {
		var y []byte
		if y, err = fields.coordinate("y"); err == nil {
			k.public, err = point(x, y)
		}
	}
	if err != nil {
		return proofKey{}, fmt.Errorf("%w: key: %w", ErrProof, err)
	}
	k.thumbprint = thumbprint(fields, names)
	return k, nil
}

// coordinate reads 32 bytes in canonical base64url.
func (o object) coordinate(name string) ([]byte, error) {
	var text string
	if err := o.string(name, &text); err != nil {
		return nil, err
	}
	const size = 32
	b, err := decodeKey(text, size)
	if err != nil || len(text) != base64.RawURLEncoding.EncodedLen(size) { // decoders pass over line breaks
		return nil, fmt.Errorf("%s is not %d bytes in base64url", name, size)
	}
	return b, nil
}

// point returns the key at a point of P-256, if it is one.
func point(x, y []byte) (*ecdsa.PublicKey, error) {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, errors.New("not a point of P-256")
	}
	return key, nil
}

// thumbprint hashes the members in the order of their names, as they must be
// spelled. All are plain text here, and so is their JSON.
func thumbprint(fields object, names []string) string {
	var b strings.Builder
	for i, name := range names {
		b.WriteByte("{,"[min(i, 1)])
		var value string
		_ = json.Unmarshal(fields[name], &value) // it was read before
		b.WriteString(`"` + name + `":"` + value + `"`)
	}
	b.WriteByte('}')
	sum := sha256.Sum256([]byte(b.String()))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
