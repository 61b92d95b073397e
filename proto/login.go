package proto

import (
	"encoding/json"
	"time"
)

// Limits of the HTTP interfaces.
const (
	MaxBodyBytes = 16 << 10 // of a request body
	MaxNameBytes = 128      // of a user, region, pool, group or node id
	MaxExtBytes  = 1 << 10  // of the operator's part of a token
	MaxFallback  = 8        // regions that serve in place of the preferred one
)

// LoginRequest is the body of POST /v1/login.
type LoginRequest struct {
	Method      string          `json:"method"`
	Credentials json.RawMessage `json:"credentials,omitempty"`
	Placement   Placement       `json:"placement,omitzero"`
	// Confirm has the tokens of the session serve none but who has the key.
	Confirm *LoginKey `json:"cnf,omitempty"`
}

// LoginKey is the public key that tokens are to be bound to.
type LoginKey struct {
	JWK json.RawMessage `json:"jwk"`
}

// PasswordCredentials are the credentials of method "password".
type PasswordCredentials struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// GuestCredentials are the credentials of method "guest".
type GuestCredentials struct {
	Name string `json:"name"`
}

// Placement carries a client's wishes about the node it is sent to. Every
// field is optional.
type Placement struct {
	Region string `json:"region,omitempty"` // preferred; another region serves when it has no room
	// Fallback are the regions that serve when Region has no room, in order of
	// preference, before all others.
	Fallback []string `json:"fallback,omitempty"`
	// Strict has no region serve but Region and Fallback.
	Strict bool   `json:"strict,omitempty"`
	Pool   string `json:"pool,omitempty"`  // strict; empty means "default"
	Group  string `json:"group,omitempty"` // sessions of one group share a node
}

// HeaderNode is the header in which a node names itself when it refuses a
// request: by it those who probe an address see that it is the right node's.
const HeaderNode = "Usher-Node"

// DefaultPool is the pool of a node or a login that names none.
const DefaultPool = "default"

// Assignment answers a login, a reconnect and an assignment: who the client
// is, and where it goes with what token.
type Assignment struct {
	Token          string      `json:"token"`
	TokenExpiresAt time.Time   `json:"token_expires_at"`
	Session        string      `json:"session"`
	User           string      `json:"user"`
	Node           NodeAddress `json:"node"`
}

// NodeAddress names a node and the URL at which clients attach to it.
type NodeAddress struct {
	ID  string `json:"id"`
	URL string `json:"url"`
}

// ReconnectRequest is the body of POST /v1/reconnect.
type ReconnectRequest struct {
	// Unreachable names the node the client could not attach to, if any.
	Unreachable string `json:"unreachable,omitempty"`
}

// AssignmentRequest is the body of POST /v1/assignments on the private API: a
// login for a user whom the caller has already verified.
type AssignmentRequest struct {
	User      string          `json:"user"`
	Placement Placement       `json:"placement,omitzero"`
	Ext       json.RawMessage `json:"ext,omitempty"`
	Confirm   Confirmation    `json:"cnf,omitzero"` // the key that the client's tokens are bound to
}
