package proto

import "encoding/json"

// Constants of the token: PROTOCOL.md, section 3.
const (
	TokenType     = "usher+jwt" // the header's typ
	TokenAudience = "usher"     // the aud claim
	TokenAlg      = "EdDSA"     // the header's alg; no other is accepted
	MaxTokenBytes = 4 << 10
)

// Claims are the claims of a token. Times are in seconds since the Unix epoch.
type Claims struct {
	Issuer    string          `json:"iss"` // the process that issued the token; nodes count arrivals by issuer
	Audience  string          `json:"aud"`
	User      string          `json:"sub"`
	Session   string          `json:"sid"`
	Node      string          `json:"nid"` // the only node that the token opens
	Epoch     uint64          `json:"ep"`  // rises each time the session changes its node
	IssuedAt  int64           `json:"iat"`
	NotBefore int64           `json:"nbf"`
	Expires   int64           `json:"exp"`
	ID        string          `json:"jti"`
	Confirm   Confirmation    `json:"cnf,omitzero"`  // the key that the token is bound to; zero for none
	Ext       json.RawMessage `json:"ext,omitempty"` // data from the operator's backend for the application
}
