package proto

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// ProblemContentType is the media type of every error body (RFC 9457).
const ProblemContentType = "application/problem+json"

// ProblemTypePrefix precedes the code in a problem's type.
const ProblemTypePrefix = "urn:usher:problem:"

// Codes of problems. They are stable: programs may choose by them.
const (
	ProblemInvalidRequest      = "invalid_request"
	ProblemInvalidCredentials  = "invalid_credentials"
	ProblemInvalidToken        = "invalid_token"
	ProblemInvalidProof        = "invalid_proof" // no proof of the key that the token is bound to
	ProblemStaleProof          = "stale_proof"   // a later one was used before
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
	ProblemFull                = "full"         // the client of a session has too much unconfirmed
	ProblemNotAttached         = "not_attached" // the client of a session has not come to its node yet
	ProblemNodeUnavailable     = "node_unavailable"
	ProblemOverloaded          = "overloaded"           // too many ask at this moment
	ProblemIdentityUnavailable = "identity_unavailable" // who checks credentials does not answer
	ProblemInsecureNode        = "insecure_node"        // an address without TLS, for one who came by https
)

// Problem is the body of every HTTP error, as RFC 9457 has it. Type is
// ProblemTypePrefix followed by Code; Detail is a sentence a person can act on
// and never carries a secret.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Code   string `json:"code"`

	// RetryAfter is the Retry-After header in whole seconds, 0 when there is
	// none. It does not travel in the body.
	RetryAfter int `json:"-"`
}

func (p *Problem) Error() string {
	if p.Detail == "" {
		return fmt.Sprintf("%d %s", p.Status, p.Code)
	}
	return fmt.Sprintf("%d %s: %s", p.Status, p.Code, p.Detail)
}

// WriteProblem answers a request with the problem. It sets Type and Title from
// Code and Status where they are empty.
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
	_ = json.NewEncoder(w).Encode(body) // the caller may be gone
}
