package proto

// Push is the body of POST /v1/sessions/{sid}/messages and of
// POST /v1/users/{user}/messages on the private API: one message to a client.
// Either Text or Data is set.
type Push struct {
	Text     *string `json:"text,omitempty"`
	Data     []byte  `json:"data,omitempty"` // base64 in JSON
	Volatile bool    `json:"volatile,omitempty"`
}

// Message returns the message, and whether exactly one of Text and Data is set.
func (p Push) Message() (Message, bool) {
	if p.Text != nil {
		return Message{Data: []byte(*p.Text), Text: true, Volatile: p.Volatile}, p.Data == nil
	}
	return Message{Data: p.Data, Volatile: p.Volatile}, p.Data != nil
}

// PushResult is the result of a push to one session.
type PushResult struct {
	Session string `json:"session"`
	Node    string `json:"node,omitempty"`
	Result  string `json:"result"`
}

// Results of a push. PushSent, PushBuffered and PushDropped are successes.
const (
	PushSent        = "sent"         // queued for the connection
	PushBuffered    = "buffered"     // kept until the client attaches again
	PushDropped     = "dropped"      // a volatile message to a client that is detached or slow
	PushFull        = "full"         // as many messages are unconfirmed as the limits allow; the message was not kept
	PushNotAttached = "not_attached" // the client has not attached to its node yet
	PushEnded       = "ended"        // the session is over
	PushUnavailable = "unavailable"  // the node did not answer; the message may have been sent
)

// MaxKeyBytes is the largest size of an Idempotency-Key in bytes.
const MaxKeyBytes = 64
