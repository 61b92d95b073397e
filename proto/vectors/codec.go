package vectors

import "github.com/usher-broker/usher/proto"

// Message is a message and how it travels.
type Message struct {
	Name     string `json:"name"`
	Text     bool   `json:"text"`
	Volatile bool   `json:"volatile"`
	String   string `json:"string"` // Data as text, where Text is set
	Data     Hex    `json:"data"`
	Frame    Hex    `json:"frame"`
}

// Errors of a BadMessage.
const (
	ErrorEmpty       = "empty"
	ErrorUnknownKind = "unknown_kind"
	ErrorInvalidUTF8 = "invalid_utf8"
)

// BadMessage is what must not be taken for a message.
type BadMessage struct {
	Name  string `json:"name"`
	Frame Hex    `json:"frame"`
	Error string `json:"error"`
}

// What the receiver of a Control does.
const (
	Act    = "act"    // what its type asks for
	Ignore = "ignore" // nothing
	Refuse = "refuse" // close with 4000
)

// Control is a control and what each side does on receiving it.
type Control struct {
	Name    string  `json:"name"`
	Text    string  `json:"text"`
	Control Content `json:"control"`
	Client  string  `json:"client"` // Act or Ignore
	Node    string  `json:"node"`   // Act or Refuse
}

// Content is what a parser finds in a control. An unknown type has no more
// than Type.
type Content struct {
	Type     string        `json:"type"`
	Received uint64        `json:"received"`
	ID       uint64        `json:"id"`
	Welcome  proto.Welcome `json:"welcome"`
	GoAway   proto.GoAway  `json:"goaway"`
}

// Control returns the content as package proto has it.
func (c Content) Control() proto.Control {
	return proto.Control{Type: c.Type, Received: c.Received, ID: c.ID, Welcome: c.Welcome, GoAway: c.GoAway}
}

// BadControl is what both sides refuse.
type BadControl struct {
	Name    string `json:"name"`
	Text    string `json:"text"`  // this,
	Bytes   Hex    `json:"bytes"` // or this where Text would not be UTF-8
	Lexical bool   `json:"lexical"`
}

// Payload returns the bytes of the control, however they are written.
func (b BadControl) Payload() []byte {
	if b.Bytes != nil {
		return b.Bytes
	}
	return []byte(b.Text)
}

// CloseCode is a close code and what a client does on it.
type CloseCode struct {
	Name   string          `json:"name"`
	Code   proto.CloseCode `json:"code"`
	Reason string          `json:"reason"` // the close reason; empty when not one of the protocol's
	Action string          `json:"action"` // stop, retry, reconnect, app
}
