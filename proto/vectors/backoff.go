package vectors

import "github.com/usher-broker/usher/proto"

// Events of a Backoff.
const (
	EventEnded            = "ended"             // a connection ended with Code, after its welcome
	EventAttachFailed     = "attach_failed"     // a connection ended with Code, before its welcome
	EventUnreachable      = "unreachable"       // no WebSocket was opened
	EventWelcome          = "welcome"           // attached
	EventReconnected      = "reconnected"       // /v1/reconnect has named a node
	EventReconnectFailed  = "reconnect_failed"  // /v1/reconnect did not answer, or answered 429 or 5xx
	EventReconnectRefused = "reconnect_refused" // /v1/reconnect answered 401 or 410
)

// What a client does Next.
const (
	NextAttach    = "attach"
	NextReconnect = "reconnect"
	NextStop      = "stop"
)

// Backoff is a sequence of events of a client that was attached, with its reactions.
type Backoff struct {
	Name  string        `json:"name"`
	About string        `json:"about"`
	Steps []BackoffStep `json:"steps"`
}

// BackoffStep is one event and the reaction of the client.
type BackoffStep struct {
	AtMS       int64           `json:"at_ms"`
	Event      string          `json:"event"`
	Code       proto.CloseCode `json:"code"`
	AttachedMS int64           `json:"attached_ms"` // EventEnded: since the welcome
	HintMS     int64           `json:"hint_ms"`     // EventReconnectFailed: Retry-After; 0 without
	Draw       float64         `json:"draw"`        // the random number in [0,1)
	WaitMS     int64           `json:"wait_ms"`
	Next       string          `json:"next"` // what the client does after the wait; empty after a welcome
}
