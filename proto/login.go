package proto

import (
	"encoding/json"
	"time"
)

// Limits of the HTTP interfaces.
const (
	MaxBodyBytes = 16 << 10 // size of a request body
	MaxNameBytes = 128      // size of the name of a user, region, pool, group or node
	MaxExtBytes  = 1 << 10  // size of ext, the operator's data in a token
	MaxFallback  = 8        // number of fallback regions
)

// LoginRequest is the body of POST /v1/login.
type LoginRequest struct {
	Method      string          `json:"method"`
	Credentials json.RawMessage `json:"credentials,omitempty"`
	Placement   Placement       `json:"placement,omitzero"`
	// Confirm binds the tokens of the session to a key: they are of no use
	// without it.
	Confirm *LoginKey `json:"cnf,omitempty"`
}

// LoginKey is the public key that the tokens of a session are bound to.
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

// Placement holds the requirements and preferences of a client for its node.
// Every field is optional.
type Placement struct {
	Region string `json:"region,omitempty"` // preferred; another region serves when it has no capacity
	// Fallback are the regions that serve when Region has no capacity, in order of
	// preference, before all others.
	Fallback []string `json:"fallback,omitempty"`
	// Strict allows only Region and Fallback to serve.
	Strict bool   `json:"strict,omitempty"`
	Pool   string `json:"pool,omitempty"`  // no other pool serves; empty means "default"
	Group  string `json:"group,omitempty"` // sessions of one group share a node
}

// HeaderNode is the header in which a node names itself when it refuses a
// request. A probe of a URL checks by it that the URL belongs to the right node.
const HeaderNode = "Usher-Node"

// DefaultPool is the pool of a node or a login that names no pool.
const DefaultPool = "default"

// Assignment is the answer to a login, a reconnect and an assignment: the user,
// the session, the node to attach to, and the token for it.
type Assignment struct {
	Token          string      `json:"token"`
	TokenExpiresAt time.Time   `json:"token_expires_at"`
	Session        string      `json:"session"`
	User           string      `json:"user"`
	Node           NodeAddress `json:"node"`
}

// NodeAddress is the id of a node and the URL at which clients attach to it.
type NodeAddress struct {
	ID  string `json:"id"`
	URL string `json:"url"`
}

// ReconnectRequest is the body of POST /v1/reconnect.
type ReconnectRequest struct {
	// Unreachable is the id of the node that the client could not attach to, or "".
	Unreachable string `json:"unreachable,omitempty"`
}

// AssignmentRequest is the body of POST /v1/assignments on the private API: a
// login for a user that the caller has already authenticated.
type AssignmentRequest struct {
	User      string          `json:"user"`
	Placement Placement       `json:"placement,omitzero"`
	Ext       json.RawMessage `json:"ext,omitempty"`
	Confirm   Confirmation    `json:"cnf,omitzero"` // the key that the client's tokens are bound to
}
