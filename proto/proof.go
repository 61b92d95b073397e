package proto

import (
	"crypto/sha256"
	"encoding/base64"
)

// Constants of proofs of possession: PROTOCOL.md, section 3.1.
const (
	ProofType              = "usher-proof+jwt" // the header's typ
	HeaderProof            = "Usher-Proof"
	ProofSubprotocolPrefix = "usher.proof." // where headers cannot be set
	MaxProofBytes          = 1 << 10
)

// Acts of a proof. A proof is valid for its act only.
const (
	ProofAttach    = "attach"
	ProofReconnect = "reconnect"
	ProofLogout    = "logout"
)

// Confirmation names the key that a token is bound to (RFC 7800). A client that
// shows the token must prove that it has the key.
type Confirmation struct {
	Thumbprint string `json:"jkt"` // of the public key (RFC 7638), SHA-256 in base64url
}

// Valid reports whether the thumbprint is well-formed.
func (c Confirmation) Valid() bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(c.Thumbprint)
	return err == nil && len(b) == sha256.Size && len(c.Thumbprint) == base64.RawURLEncoding.EncodedLen(sha256.Size)
}

// Proof are the claims of a proof of possession.
type Proof struct {
	Act   string `json:"act"`
	Token string `json:"ath"` // TokenHash of the token that the proof is for
	// N rises from each proof of a session to the next. Once a proof was used, a
	// proof with the same or a lower N is stale.
	N uint64 `json:"n"`
}

// TokenHash returns the SHA-256 of the token's text in base64url.
func TokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
