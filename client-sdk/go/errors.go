package usher

import (
	"errors"
	"fmt"

	"github.com/usher-broker/usher/proto"
)

var (
	// ErrFull says that as much is unconfirmed as the node allows.
	ErrFull = errors.New("usher: too much is unconfirmed")
	// ErrTooLarge says that a message is larger than the node allows.
	ErrTooLarge = errors.New("usher: message too large")
	// ErrEnded is matched by every *EndedError.
	ErrEnded = errors.New("usher: session ended")
	// ErrClosed is why a session ended that was left with Close.
	ErrClosed = errors.New("closed by the application")
	// ErrLoggedOut is why a session ended that was ended with Logout.
	ErrLoggedOut = errors.New("logged out")
	// ErrUnconfirmed says that Close or Logout did not wait for the node to
	// confirm everything that was sent.
	ErrUnconfirmed = errors.New("usher: messages left unconfirmed")

	// errProtocol is wrapped where the node does what the protocol forbids.
	errProtocol = errors.New("the node broke the protocol")
)

// CutError says how a connection ended, or an attempt to make one.
type CutError struct {
	// Code is the close code, 1006 where there was none.
	Code proto.CloseCode
	// Reason is the machine word that came with the code.
	Reason string
	// Err is the cause where it is not the code alone. It wraps a
	// *proto.Problem when the node answered with an HTTP error.
	Err error
}

func (e *CutError) Error() string {
	text := "usher: connection closed with" + describe(e.Code, e.Reason, e.Err)
	if e.Code == closeAbnormal {
		text = "usher: connection lost" + describe(0, e.Reason, e.Err)
	}
	return text
}

// Unwrap returns the cause.
func (e *CutError) Unwrap() error { return e.Err }

func describe(code proto.CloseCode, reason string, err error) string {
	var text string
	if code != 0 {
		text += fmt.Sprintf(" %d", code)
	}
	if reason != "" {
		text += " " + reason
	}
	if err != nil {
		text += ": " + err.Error()
	}
	return text
}

// EndedError says why a session is over for this client. It matches ErrEnded.
type EndedError struct {
	// Code is the close code that ended the session. It is 0 when no code did:
	// the application left, or auth refused a request.
	Code proto.CloseCode
	// Reason is the machine word that came with the code.
	Reason string
	// Err is the cause where it is not the code alone: ErrClosed, ErrLoggedOut,
	// a *proto.Problem of auth, or what the node did wrong.
	Err error
}

func (e *EndedError) Error() string {
	return ErrEnded.Error() + describe(e.Code, e.Reason, e.Err)
}

// Is reports whether target is ErrEnded.
func (e *EndedError) Is(target error) bool { return target == ErrEnded }

// Unwrap returns the cause.
func (e *EndedError) Unwrap() error { return e.Err }
