package proto

import (
	"crypto/sha256"
	"encoding/base64"
)

// Constants of proofs of possession. See the chapter on them in PROTOCOL.md.
const (
	ProofType              = "usher-proof+jwt" // the header's typ
	HeaderProof            = "Usher-Proof"
	ProofSubprotocolPrefix = "usher.proof." // where headers cannot be set
	MaxProofBytes          = 1 << 10
)

// What a proof is for: it serves for nothing else.
const (
	ProofAttach    = "attach"
	ProofReconnect = "reconnect"
	ProofLogout    = "logout"
)

// Confirmation says which key a token is bound to, as RFC 7800 has it: who shows
// the token proves that it has the key.
type Confirmation struct {
	Thumbprint string `json:"jkt"` // of the public key, RFC 7638, SHA-256, in base64url
}

// Valid reports whether the thumbprint has the form of one.
func (c Confirmation) Valid() bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(c.Thumbprint)
	return err == nil && len(b) == sha256.Size && len(c.Thumbprint) == base64.RawURLEncoding.EncodedLen(sha256.Size)
}

// Proof are the claims of a proof of possession.
type Proof struct {
	Act   string `json:"act"`
	Token string `json:"ath"` // TokenHash of the token that it goes with
	// N rises from each proof of a session to the next: an earlier one serves no
	// more once a later one has.
	N uint64 `json:"n"`
}

// TokenHash returns the SHA-256 of the token's text in base64url.
func TokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
