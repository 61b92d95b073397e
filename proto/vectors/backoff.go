package vectors

import "github.com/usher-broker/usher/proto"

// Events of a Backoff.
const (
	EventEnded            = "ended"             // a connection that had its welcome ended, with Code
	EventAttachFailed     = "attach_failed"     // one ended before its welcome, with Code
	EventUnreachable      = "unreachable"       // no WebSocket came about
	EventWelcome          = "welcome"           // attached
	EventReconnected      = "reconnected"       // /v1/reconnect has named a node
	EventReconnectFailed  = "reconnect_failed"  // it did not answer, or with 429 or 5xx
	EventReconnectRefused = "reconnect_refused" // it answered 401 or 410
)

// What a client does Next.
const (
	NextAttach    = "attach"
	NextReconnect = "reconnect"
	NextStop      = "stop"
)

// Backoff is what happens to a client that has been attached, and what it does.
type Backoff struct {
	Name  string        `json:"name"`
	About string        `json:"about"`
	Steps []BackoffStep `json:"steps"`
}

// BackoffStep is one event and what follows from it.
type BackoffStep struct {
	AtMS       int64           `json:"at_ms"`
	Event      string          `json:"event"`
	Code       proto.CloseCode `json:"code"`
	AttachedMS int64           `json:"attached_ms"` // EventEnded: since the welcome
	HintMS     int64           `json:"hint_ms"`     // EventReconnectFailed: Retry-After; 0 without
	Draw       float64         `json:"draw"`        // the random number, in [0,1)
	WaitMS     int64           `json:"wait_ms"`
	Next       string          `json:"next"` // after the wait; empty after a welcome
}
