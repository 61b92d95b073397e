package tokentest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"

	"github.com/usher-broker/usher/proto"
)

// Holder is a client that has a key and makes proofs of possession with it.
type Holder struct{ Key ed25519.PrivateKey }

// NewHolder returns a holder whose key is derived from the seed, so that it is the same
// in every run.
func NewHolder(seed byte) Holder {
	return Holder{ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), seed))}
}

// JWK returns the public key in the form that a login sends and a thumbprint covers.
func (h Holder) JWK() string {
	return `{"crv":"Ed25519","kty":"OKP","x":"` + b64(string(h.Key.Public().(ed25519.PublicKey))) + `"}`
}

// Confirmation returns the claim that binds a token to the key.
func (h Holder) Confirmation() proto.Confirmation {
	sum := sha256.Sum256([]byte(h.JWK()))
	return proto.Confirmation{Thumbprint: b64(string(sum[:]))}
}

// Proof returns a proof with the number n for the act and the token.
func (h Holder) Proof(act, token string, n uint64) string {
	body, err := json.Marshal(proto.Proof{Act: act, Token: proto.TokenHash(token), N: n})
	if err != nil {
		panic(err) // a Proof can always be encoded
	}
	return signWith(h.Key, b64(`{"alg":"EdDSA","typ":"usher-proof+jwt","jwk":`+h.JWK()+`}`)+"."+b64(string(body)))
}
