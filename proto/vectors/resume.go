package vectors

import "github.com/usher-broker/usher/proto"

// Limits are the limits in the welcome of a vector.
type Limits struct {
	Messages int `json:"messages"`
	Bytes    int `json:"bytes"`
}

// Resume is a scenario of one session. Its steps happen in order.
type Resume struct {
	Name   string       `json:"name"`
	About  string       `json:"about"`
	Limits Limits       `json:"limits"`
	Steps  []ResumeStep `json:"steps"`
}

// Operations of a ResumeStep.
const (
	OpAttach    = "attach"
	OpSend      = "send"
	OpAck       = "ack"
	OpArrive    = "arrive"
	OpCut       = "cut"
	OpCrash     = "crash"
	OpWindow    = "window"
	OpCounts    = "counts"
	OpDelivered = "delivered"
)

// Outcomes of an attach.
const (
	OutcomeNew     = "new"     // not resumed, and the client had named no stream
	OutcomeResumed = "resumed" // the stream continues
	OutcomeReset   = "reset"   // not resumed, for Reason
	OutcomeRefused = "refused" // closed with Code
)

// ResumeStep is one step. Op says which of the fields are used: see README.md.
type ResumeStep struct {
	Op      string `json:"op"`
	Conn    string `json:"conn"`
	Lost    bool   `json:"lost"`    // does not reach the other side
	Hostile bool   `json:"hostile"` // done by an attacker, not by the client of the scenario

	// attach: the request
	Attempt  *uint64 `json:"attempt"`
	Names    string  `json:"names"`
	Received uint64  `json:"received"`
	Other    bool    `json:"other"` // a new process, which does not know the stream
	// attach: the outcome
	Outcome       string          `json:"outcome"`
	Stream        string          `json:"stream"`
	Reason        string          `json:"reason"`
	Counted       uint64          `json:"counted"` // received of the welcome
	Code          proto.CloseCode `json:"code"`
	Replaces      string          `json:"replaces"`
	ClientResends []string        `json:"client_resends"`
	NodeResends   []string        `json:"node_resends"`
	ResendsLost   bool            `json:"resends_lost"` // the welcome arrives, and nothing after it
	// attach, send: the unconfirmed messages that are reported when a stream ends
	ClientUnconfirmed []string `json:"client_unconfirmed"`
	NodeUnconfirmed   []string `json:"node_unconfirmed"`

	From     string          `json:"from"` // send, ack, arrive: "client" or "node"
	Data     string          `json:"data"` // send, arrive
	Volatile bool            `json:"volatile"`
	Error    string          `json:"error"` // send: "full" or "overflow"
	Count    uint64          `json:"count"` // ack
	Close    proto.CloseCode `json:"close"` // ack: the node closes the connection

	SeenBy string `json:"seen_by"` // cut: "both", "client" or "node"

	Of    string `json:"of"` // counts: "client" or "node"
	Sent  uint64 `json:"sent"`
	Acked uint64 `json:"acked"`

	ToClient []string `json:"to_client"` // delivered
	ToNode   []string `json:"to_node"`
}

// Stream is a sequence of operations on one side of a stream.
type Stream struct {
	Name   string       `json:"name"`
	Limits Limits       `json:"limits"`
	Steps  []StreamStep `json:"steps"`
}

// StreamStep is one operation and its result.
type StreamStep struct {
	Op     string `json:"op"`
	Repeat int    `json:"repeat"` // 0 for once

	Bytes  int    `json:"bytes"`  // send, handled: payload length
	Number uint64 `json:"number"` // send: number of the last message
	Count  uint64 `json:"count"`  // acked, take_ack
	Error  string `json:"error"`  // send: "full"; acked: "count"

	Pending bool `json:"pending"` // due
	Now     bool `json:"now"`

	Sent     uint64 `json:"sent"` // state
	Acked    uint64 `json:"acked"`
	Received uint64 `json:"received"`
	Handled  uint64 `json:"handled"`
	Kept     []int  `json:"kept"` // payload bytes, oldest first
}
