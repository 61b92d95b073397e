package vectors

import (
	"encoding/json"

	"github.com/usher-broker/usher/proto"
)

// Handshake is a request to attach and its outcome.
type Handshake struct {
	Name    string           `json:"name"`
	Node    HandshakeNode    `json:"node"`
	Session HandshakeSession `json:"session"`
	Token   HandshakeToken   `json:"token"`
	Request HandshakeRequest `json:"request"`
	Outcome HandshakeOutcome `json:"outcome"`
}

// HandshakeNode is the state of the node, whose id is "node-1".
type HandshakeNode struct {
	Draining bool     `json:"draining"`
	Full     bool     `json:"full"`    // holds as many sessions as it may
	Store    string   `json:"store"`   // "up" or "down"
	Origins  []string `json:"origins"` // allowed origins; nil for any
}

// HandshakeSession is the session's record in the store and, if Held is set, the
// session's state in the node.
type HandshakeSession struct {
	Record string          `json:"record"` // "missing", "assigned", "attached", "detached" or "ended"
	Node   string          `json:"node"`   // the owner
	Epoch  uint64          `json:"epoch"`
	Stream string          `json:"stream"` // of the record; "current" if Held is set
	Code   proto.CloseCode `json:"code"`   // why the session ended

	Held       bool    `json:"held"`
	Attached   bool    `json:"attached"`   // has an open connection
	Client     string  `json:"client"`     // of the last connection, if it named one
	Attempt    *uint64 `json:"attempt"`    // of the last connection, if it gave one
	Sent       uint64  `json:"sent"`       // by the node
	Acked      uint64  `json:"acked"`      // by the client
	Accepted   uint64  `json:"accepted"`   // by the node
	Overflowed bool    `json:"overflowed"` // the current stream has ended because of an overflow
	Earlier    string  `json:"earlier"`    // the stream before the current one, which a client without a stream replaced
}

// HandshakeToken is the token that the client holds.
type HandshakeToken struct {
	// Is is "valid", "expired" (authentic, but expired), "forged" (signed
	// with an unknown key), "forged_expired", "garbage" (not a JWT), "empty" or
	// "too_long" (4097 bytes).
	Is    string `json:"is"`
	Node  string `json:"node"`
	Epoch uint64 `json:"epoch"`
}

// HandshakeRequest is the request.
type HandshakeRequest struct {
	Method    string            `json:"method"`
	HTTP      string            `json:"http"`      // "1.0" or "1.1"
	Drop      []string          `json:"drop"`      // headers of the handshake to omit
	Protocols []string          `json:"protocols"` // offered subprotocols, without the token
	TokenBy   []string          `json:"token_by"`  // of "header", "subprotocol", "query", "basic"
	Origin    string            `json:"origin"`
	Query     map[string]string `json:"query"` // not yet percent-encoded
}

// HandshakeOutcome is one of: an HTTP error (Status is not 0), a connection that is
// closed at once (Close is not 0), and a Welcome.
type HandshakeOutcome struct {
	Status  int               `json:"status"`
	Problem string            `json:"problem"` // the code of the problem body
	Close   proto.CloseCode   `json:"close"`
	Welcome *HandshakeWelcome `json:"welcome"`

	Resends  uint64 `json:"resends"`  // number of messages after the welcome
	Replaces bool   `json:"replaces"` // the node closes the open connection with 4003
}

// HandshakeWelcome has the fields of a welcome that depend on the request. The
// stream is "current" when Resumed is set and a new name otherwise.
type HandshakeWelcome struct {
	Resumed  bool   `json:"resumed"`
	Reason   string `json:"reason"`
	Received uint64 `json:"received"`
}

// UnmarshalJSON fills in the defaults.
func (h *Handshake) UnmarshalJSON(b []byte) error {
	type plain Handshake // without this method
	p := plain{
		Node:    HandshakeNode{Store: "up"},
		Session: HandshakeSession{Record: "missing", Node: "node-1", Epoch: 1},
		Token:   HandshakeToken{Is: "valid", Node: "node-1", Epoch: 1},
		Request: HandshakeRequest{
			Method: "GET", HTTP: "1.1", Protocols: []string{proto.Subprotocol}, TokenBy: []string{"header"},
		},
	}
	if err := strict(b, &p); err != nil {
		return err
	}
	if p.Session.Held && p.Session.Stream == "" {
		p.Session.Stream = "current"
	}
	*h = Handshake(p)
	return nil
}

var _ json.Unmarshaler = (*Handshake)(nil)
