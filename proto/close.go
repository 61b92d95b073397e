package proto

import "fmt"

// CloseCode is a WebSocket close code. Its range says what the client does
// next: see Action.
type CloseCode uint16

// Close codes of the session protocol.
const (
	CloseProtocolError CloseCode = 4000
	CloseSessionEnded  CloseCode = 4001
	CloseKicked        CloseCode = 4002
	CloseReplaced      CloseCode = 4003
	CloseTooLarge      CloseCode = 4004

	CloseTooSlow      CloseCode = 4100
	CloseRateExceeded CloseCode = 4101
	CloseTimeout      CloseCode = 4102
	CloseInternal     CloseCode = 4103
	CloseStaleProof   CloseCode = 4104

	CloseGoingAway      CloseCode = 4200
	CloseTokenExpired   CloseCode = 4201
	CloseMoved          CloseCode = 4202
	CloseFull           CloseCode = 4203
	CloseUnknownSession CloseCode = 4204
)

// CloseCodes lists the codes above, in ascending order.
var CloseCodes = []CloseCode{
	CloseProtocolError, CloseSessionEnded, CloseKicked, CloseReplaced, CloseTooLarge,
	CloseTooSlow, CloseRateExceeded, CloseTimeout, CloseInternal, CloseStaleProof,
	CloseGoingAway, CloseTokenExpired, CloseMoved, CloseFull, CloseUnknownSession,
}

// String returns the close reason that travels with the code, or "" for a code
// that this version does not know.
func (c CloseCode) String() string {
	switch c {
	case CloseProtocolError:
		return "protocol_error"
	case CloseSessionEnded:
		return "session_ended"
	case CloseKicked:
		return "kicked"
	case CloseReplaced:
		return "replaced"
	case CloseTooLarge:
		return "too_large"
	case CloseTooSlow:
		return "too_slow"
	case CloseRateExceeded:
		return "rate_exceeded"
	case CloseTimeout:
		return "timeout"
	case CloseInternal:
		return "internal"
	case CloseStaleProof:
		return "stale_proof"
	case CloseGoingAway:
		return "going_away"
	case CloseTokenExpired:
		return "token_expired"
	case CloseMoved:
		return "moved"
	case CloseFull:
		return "full"
	case CloseUnknownSession:
		return "unknown_session"
	}
	return ""
}

// Action is what a client does after its connection has closed.
type Action uint8

// The actions.
const (
	ActionRetry     Action = iota // attach again at the same node, with backoff
	ActionStop                    // the session is over for this client
	ActionReconnect               // call /v1/reconnect, then attach at the node that it names
	ActionApp                     // the application ended the session
)

// String returns the name of the action in the vectors: "retry", "stop",
// "reconnect" or "app".
func (a Action) String() string {
	switch a {
	case ActionRetry:
		return "retry"
	case ActionStop:
		return "stop"
	case ActionReconnect:
		return "reconnect"
	case ActionApp:
		return "app"
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// Action returns what the client does after the code. It depends on the range of
// the code alone, and is defined for unknown codes too.
func (c CloseCode) Action() Action {
	switch {
	case c >= 4000 && c < 4100:
		return ActionStop
	case c >= 4200 && c < 4300:
		return ActionReconnect
	case c >= 4500 && c < 5000:
		return ActionApp
	}
	return ActionRetry
}
