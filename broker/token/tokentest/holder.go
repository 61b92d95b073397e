package tokentest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"

	"github.com/usher-broker/usher/proto"
)

// Holder is a client with a key, who proves that it has it.
type Holder struct{ Key ed25519.PrivateKey }

// NewHolder returns one whose key is made of the seed: the same in every run.
func NewHolder(seed byte) Holder {
	return Holder{ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), seed))}
}

// JWK returns the public key, as a login names it and its thumbprint wants it.
func (h Holder) JWK() string {
	return `{"crv":"Ed25519","kty":"OKP","x":"` + b64(string(h.Key.Public().(ed25519.PublicKey))) + `"}`
}

// Confirmation is what binds a token to the key.
func (h Holder) Confirmation() proto.Confirmation {
	sum := sha256.Sum256([]byte(h.JWK()))
	return proto.Confirmation{Thumbprint: b64(string(sum[:]))}
}

// Proof returns a proof for the act, to go with the token.
func (h Holder) Proof(act, token string, n uint64) string {
	body, err := json.Marshal(proto.Proof{Act: act, Token: proto.TokenHash(token), N: n})
	if err != nil {
		panic(err) // it always can be
	}
	return signWith(h.Key, b64(`{"alg":"EdDSA","typ":"usher-proof+jwt","jwk":`+h.JWK()+`}`)+"."+b64(string(body)))
}
