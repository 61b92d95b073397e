package proto

import "encoding/json"

// Constants of the token. See the chapter on tokens in PROTOCOL.md.
const (
	TokenType     = "usher+jwt" // the header's typ
	TokenAudience = "usher"     // the aud claim
	TokenAlg      = "EdDSA"     // the header's alg; no other is accepted
	MaxTokenBytes = 4 << 10
)

// Claims are the claims of a token. Times are seconds since the Unix epoch.
type Claims struct {
	Issuer    string          `json:"iss"` // the process that issued it: nodes count who lands by it
	Audience  string          `json:"aud"`
	User      string          `json:"sub"`
	Session   string          `json:"sid"`
	Node      string          `json:"nid"` // the only node it opens
	Epoch     uint64          `json:"ep"`  // rises each time the session changes its node
	IssuedAt  int64           `json:"iat"`
	NotBefore int64           `json:"nbf"`
	Expires   int64           `json:"exp"`
	ID        string          `json:"jti"`
	Confirm   Confirmation    `json:"cnf,omitzero"`  // the key that whoever shows it must have; none for anybody
	Ext       json.RawMessage `json:"ext,omitempty"` // what the operator's backend tells the application
}
