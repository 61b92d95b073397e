package proto

import "encoding/json"

// Constants of a queue ticket.
const (
	TicketType     = "usher-queue+jwt" // the header's typ
	TicketAudience = "usher-queue"     // the aud claim
)

// Ticket holds the claims of a queue ticket, which identifies a login that waits in
// the queue. It is signed like a token, and is valid for /v1/queue only. Times are
// in seconds since the Unix epoch.
type Ticket struct {
	Audience  string          `json:"aud"`
	User      string          `json:"sub"`
	Entry     string          `json:"plc"` // the id of the login in the queue
	Placement Placement       `json:"pla,omitzero"`
	Ext       json.RawMessage `json:"ext,omitempty"`
	Confirm   Confirmation    `json:"cnf,omitzero"`
	IssuedAt  int64           `json:"iat"`
	Expires   int64           `json:"exp"`
}

// Queued is the answer (202) to a login that waits because every node is full.
type Queued struct {
	Ticket string `json:"ticket"` // for /v1/queue; each answer has a new one
	// Position is the position in the queue; 1 is next.
	Position int `json:"position"`
	Waiting  int `json:"waiting"` // logins in the queue, this one included
	// EstimateMS is the estimated wait in milliseconds, from the recent rate of
	// admissions; absent if there is no estimate.
	EstimateMS int64 `json:"estimate_ms,omitempty"`
	// PollAfterMS is the time after which to ask again, in milliseconds. The queue
	// keeps the position at least ten seconds longer.
	PollAfterMS int64 `json:"poll_after_ms"`
}
