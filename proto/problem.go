package proto

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// ProblemContentType is the media type of every error body (RFC 9457).
const ProblemContentType = "application/problem+json"

// ProblemTypePrefix precedes the code in the type of a problem.
const ProblemTypePrefix = "urn:usher:problem:"

// Codes of problems. They are stable: programs may compare them.
const (
	ProblemInvalidRequest      = "invalid_request"
	ProblemInvalidCredentials  = "invalid_credentials"
	ProblemInvalidToken        = "invalid_token"
	ProblemInvalidProof        = "invalid_proof" // no valid proof for the key that the token is bound to
	ProblemStaleProof          = "stale_proof"   // this proof or a later one was used before
	ProblemForbidden           = "forbidden"
	ProblemNotFound            = "not_found"
	ProblemMethodNotAllowed    = "method_not_allowed"
	ProblemAlreadyConnected    = "already_connected"
	ProblemSessionEnded        = "session_ended"
	ProblemBodyTooLarge        = "body_too_large"
	ProblemUpgradeRequired     = "upgrade_required"
	ProblemTooManyAttempts     = "too_many_attempts"
	ProblemNoCapacity          = "no_capacity"
	ProblemStoreUnavailable    = "store_unavailable"
	ProblemInternal            = "internal"
	ProblemFull                = "full"         // the session has as many unconfirmed messages as its limits allow
	ProblemNotAttached         = "not_attached" // the client has not attached to its node yet
	ProblemNodeUnavailable     = "node_unavailable"
	ProblemOverloaded          = "overloaded"           // too many requests at this moment
	ProblemIdentityUnavailable = "identity_unavailable" // the service that checks credentials does not answer
	ProblemInsecureNode        = "insecure_node"        // the request came by https and the node's URL has no TLS
)

// Problem is the body of every HTTP error (RFC 9457). Type is ProblemTypePrefix
// followed by Code. Detail is a sentence that a person can act on; it never
// holds a secret.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Code   string `json:"code"`

	// RetryAfter is the header Retry-After in seconds; 0 for no header. It is not
	// part of the body.
	RetryAfter int `json:"-"`
}

// Error returns the status, the code and the detail.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return fmt.Sprintf("%d %s", p.Status, p.Code)
	}
	return fmt.Sprintf("%d %s: %s", p.Status, p.Code, p.Detail)
}

// WriteProblem answers a request with the problem. It sets Type and Title from
// Code and Status if they are empty. It does not change p.
func WriteProblem(w http.ResponseWriter, p *Problem) {
	body := *p
	if body.Type == "" {
		body.Type = ProblemTypePrefix + body.Code
	}
	if body.Title == "" {
		body.Title = http.StatusText(body.Status)
	}
	h := w.Header()
	h.Set("Content-Type", ProblemContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if body.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(body.RetryAfter))
	}
	w.WriteHeader(body.Status)
	_ = json.NewEncoder(w).Encode(body) // the client may have disconnected
}
