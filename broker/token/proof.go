package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/strictjson"
)

// ErrProof is wrapped by the errors of a proof of possession, and of a client's public
// key.
var ErrProof = errors.New("invalid proof")

// A proof is a JWT that contains its public key. The token contains the thumbprint of
// the key that it must be. Browsers support ES256; elsewhere Ed25519 is cheaper.
const (
	algES256 = "ES256"
	algEdDSA = "EdDSA"
)

// Thumbprint returns the thumbprint (RFC 7638) of a client's public key, a JWK. The key
// must be of P-256 or Ed25519, and have no members but those of the key itself. Errors
// wrap ErrProof.
func Thumbprint(jwk []byte) (string, error) {
	k, err := readProofKey(jwk)
	if err != nil {
		return "", err
	}
	return k.thumbprint, nil
}

// VerifyProof verifies a proof for act and for the token tok, made with the key of the
// thumbprint, and returns its number. The caller must check that the number was not
// used before. Errors wrap ErrProof.
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
		return fail("its key is not the key that the token is bound to")
	}
	p, err := readProof(parts[1])
	if err != nil {
		return 0, err
	}
	switch {
	case p.Act != act:
		return fail("it is for the act %q, want %q", p.Act, act)
	case p.Token != proto.TokenHash(tok):
		return fail("it is for another token")
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
	o, err := decodeObject(segment)
	if err != nil {
		return k, fmt.Errorf("%w: header: %w", ErrProof, err)
	}
	o.Only("alg", "typ", "jwk")
	alg, typ := o.String("alg"), o.String("typ")
	if err := o.Err(); err != nil {
		return k, fmt.Errorf("%w: header: %w", ErrProof, err)
	}
	if k, err = readProofKey(o.Raw("jwk")); err != nil {
		return k, err
	}
	switch {
	case typ != proto.ProofType:
		return k, fmt.Errorf("%w: header: typ is %q, want %s", ErrProof, typ, proto.ProofType)
	case alg != k.alg:
		return k, fmt.Errorf("%w: header: alg is %q, and the key is for %s", ErrProof, alg, k.alg)
	}
	return k, nil
}

func readProof(segment string) (p proto.Proof, err error) {
	o, err := decodeObject(segment)
	if err == nil {
		o.Only("act", "ath", "n")
		p = proto.Proof{Act: o.String("act"), Token: o.String("ath"), N: o.Uint("n", 1, proto.MaxCount)}
		err = o.Err()
	}
	if err != nil {
		return proto.Proof{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	return p, nil
}

// readProofKey reads a public JWK. It returns an error if the JWK has a member that the
// thumbprint does not cover, such as the private key.
func readProofKey(jwk []byte) (k proofKey, err error) {
	o, err := jsonRules.Parse(jwk)
	if err != nil {
		return k, fmt.Errorf("%w: key: %w", ErrProof, err)
	}
	kty, crv := o.String("kty"), o.String("crv")
	if err := o.Err(); err != nil {
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
	o.Only(names...)
	x := coordinate(o, "x")
	if k.alg == algEdDSA {
		k.public = ed25519.PublicKey(x)
	} else if y := coordinate(o, "y"); o.Err() == nil {
		if k.public, err = point(x, y); err != nil {
			return proofKey{}, fmt.Errorf("%w: key: %w", ErrProof, err)
		}
	}
	if err := o.Err(); err != nil {
		return proofKey{}, fmt.Errorf("%w: key: %w", ErrProof, err)
	}
	k.thumbprint = thumbprint(o, names)
	return k, nil
}

// coordinate reads 32 bytes in canonical base64url.
func coordinate(o strictjson.Object, name string) []byte {
	const size = 32
	text := o.String(name)
	b, err := decodeKey(text, size)
	if err != nil || len(text) != base64.RawURLEncoding.EncodedLen(size) { // decoders ignore line breaks
		o.Fail(name, fmt.Sprintf("expected %d bytes in base64url", size))
	}
	return b
}

// point returns the public key of the point, or an error if it is not on P-256.
func point(x, y []byte) (*ecdsa.PublicKey, error) {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, errors.New("not a point of P-256")
	}
	return key, nil
}

// thumbprint hashes the members in the order of their names. The values need no
// escaping in JSON: they are a key type, the name of a curve, and base64url.
func thumbprint(o strictjson.Object, names []string) string {
	var b strings.Builder
	for i, name := range names {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(`"` + name + `":"` + o.String(name) + `"`)
	}
	b.WriteByte('}')
	sum := sha256.Sum256([]byte(b.String()))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
