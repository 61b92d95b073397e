package vectors

import "github.com/usher-broker/usher/proto"

// Message is a message and its encoding.
type Message struct {
	Name     string `json:"name"`
	Text     bool   `json:"text"`
	Volatile bool   `json:"volatile"`
	String   string `json:"string"` // Data as text, if Text is set
	Data     Hex    `json:"data"`
	Frame    Hex    `json:"frame"`
}

// Errors of a BadMessage.
const (
	ErrorEmpty       = "empty"
	ErrorUnknownKind = "unknown_kind"
	ErrorInvalidUTF8 = "invalid_utf8"
)

// BadMessage is a frame that a receiver must refuse.
type BadMessage struct {
	Name  string `json:"name"`
	Frame Hex    `json:"frame"`
	Error string `json:"error"`
}

// What the receiver of a Control does.
const (
	Act    = "act"    // acts as the type requires
	Ignore = "ignore" // does nothing
	Refuse = "refuse" // closes with 4000
)

// Control is a control and what each side does when it receives it.
type Control struct {
	Name    string  `json:"name"`
	Text    string  `json:"text"`
	Control Content `json:"control"`
	Client  string  `json:"client"` // Act or Ignore
	Node    string  `json:"node"`   // Act or Refuse
}

// Content is the parsed content of a control. For an unknown type only Type is set.
type Content struct {
	Type     string        `json:"type"`
	Received uint64        `json:"received"`
	ID       uint64        `json:"id"`
	Welcome  proto.Welcome `json:"welcome"`
	GoAway   proto.GoAway  `json:"goaway"`
}

// Control returns the content as a proto.Control.
func (c Content) Control() proto.Control {
	return proto.Control{Type: c.Type, Received: c.Received, ID: c.ID, Welcome: c.Welcome, GoAway: c.GoAway}
}

// BadControl is a control that both sides refuse.
type BadControl struct {
	Name    string `json:"name"`
	Text    string `json:"text"`    // the control, unless Bytes is set
	Bytes   Hex    `json:"bytes"`   // the control, if it is not UTF-8
	Lexical bool   `json:"lexical"` // only a parser that sees the spelling of numbers can refuse it
}

// Payload returns the bytes of the control, from Bytes or Text.
func (b BadControl) Payload() []byte {
	if b.Bytes != nil {
		return b.Bytes
	}
	return []byte(b.Text)
}

// CloseCode is a close code and what a client does after it.
type CloseCode struct {
	Name   string          `json:"name"`
	Code   proto.CloseCode `json:"code"`
	Reason string          `json:"reason"` // the close reason; empty if the protocol has none for the code
	Action string          `json:"action"` // stop, retry, reconnect, app
}
