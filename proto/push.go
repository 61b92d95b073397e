package proto

// Push is the body of POST /v1/sessions/{sid}/messages and of
// POST /v1/users/{user}/messages on the private API: one message to a client.
// Either Text or Data is set.
type Push struct {
	Text     *string `json:"text,omitempty"`
	Data     []byte  `json:"data,omitempty"` // base64 in JSON
	Volatile bool    `json:"volatile,omitempty"`
}

// Message returns the message, and whether there is one.
func (p Push) Message() (Message, bool) {
	if p.Text != nil {
		return Message{Data: []byte(*p.Text), Text: true, Volatile: p.Volatile}, p.Data == nil
	}
	return Message{Data: p.Data, Volatile: p.Volatile}, p.Data != nil
}

// PushResult says what became of a message that was pushed to a session.
type PushResult struct {
	Session string `json:"session"`
	Node    string `json:"node,omitempty"`
	Result  string `json:"result"`
}

// Results of a push. The first two and PushDropped are successes.
const (
	PushSent        = "sent"         // to be written to the connection
	PushBuffered    = "buffered"     // kept for when the client is back
	PushDropped     = "dropped"      // a volatile one, and the client is away or slow
	PushFull        = "full"         // the client has too much unconfirmed; nothing was kept
	PushNotAttached = "not_attached" // the client has not come to its node yet
	PushEnded       = "ended"        // the session is over
	PushUnavailable = "unavailable"  // the node did not answer; whether it was sent is not known
)

// MaxKeyBytes bounds an Idempotency-Key.
const MaxKeyBytes = 64
