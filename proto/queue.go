package proto

import "encoding/json"

// Constants of a ticket for the waiting room.
const (
	TicketType     = "usher-queue+jwt" // the header's typ
	TicketAudience = "usher-queue"     // the aud claim
)

// Ticket is what the client of a login that waits shows when it asks again. It is
// signed as a token is, and opens nothing but the waiting room. Times are seconds
// since the Unix epoch.
type Ticket struct {
	Audience  string          `json:"aud"`
	User      string          `json:"sub"`
	Entry     string          `json:"plc"` // in the line
	Placement Placement       `json:"pla,omitzero"`
	Ext       json.RawMessage `json:"ext,omitempty"`
	Confirm   Confirmation    `json:"cnf,omitzero"`
	IssuedAt  int64           `json:"iat"`
	Expires   int64           `json:"exp"`
}

// Queued answers a login, with 202, that has to wait because every node is full.
type Queued struct {
	Ticket string `json:"ticket"` // for /v1/queue; each answer has a new one
	// Position counts from 1, which is next.
	Position int `json:"position"`
	Waiting  int `json:"waiting"` // logins in the line, with this one
	// EstimateMS is how long it will take in milliseconds, as far as can be told
	// from how it went lately; absent if it cannot.
	EstimateMS int64 `json:"estimate_ms,omitempty"`
	// PollAfterMS is when to ask again. The place is kept at least ten seconds
	// longer.
	PollAfterMS int64 `json:"poll_after_ms"`
}
