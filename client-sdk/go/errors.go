package usher

import (
	"errors"
	"fmt"

	"github.com/usher-broker/usher/proto"
)

var (
	// ErrFull means that as many messages or bytes are unconfirmed as the node
	// allows.
	ErrFull = errors.New("usher: full: too many messages are unconfirmed, send again later")
	// ErrTooLarge means that a message is larger than the node allows.
	ErrTooLarge = errors.New("usher: message too large")
	// ErrEnded matches every *EndedError.
	ErrEnded = errors.New("usher: session ended")
	// ErrClosed is the cause of an end by Close.
	ErrClosed = errors.New("closed by the application")
	// ErrLoggedOut is the cause of an end by Logout.
	ErrLoggedOut = errors.New("logged out")
	// ErrUnconfirmed means that Close or Logout returned before the node had
	// confirmed every message.
	ErrUnconfirmed = errors.New("usher: messages left unconfirmed")

	// errProtocol is the cause if the node violated the protocol.
	errProtocol = errors.New("the node broke the protocol")
)

// CutError describes how a connection, or an attempt to open one, ended.
type CutError struct {
	// Code is the close code, or 1006 if there was none.
	Code proto.CloseCode
	// Reason is the close reason that came with the code.
	Reason string
	// Err is the cause, if the code alone does not say it. It wraps a
	// *proto.Problem if the node answered with an HTTP error.
	Err error
}

// Error returns the code, the reason and the cause.
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

// EndedError says why a session has ended for this client. It matches ErrEnded.
type EndedError struct {
	// Code is the close code that ended the session. It is 0 if there was no code:
	// the application closed the session, or auth refused a request.
	Code proto.CloseCode
	// Reason is the close reason that came with the code.
	Reason string
	// Err is the cause, if the code alone does not say it: ErrClosed,
	// ErrLoggedOut, a *proto.Problem of auth, or a protocol violation of the node.
	Err error
}

// Error returns the code, the reason and the cause.
func (e *EndedError) Error() string {
	return ErrEnded.Error() + describe(e.Code, e.Reason, e.Err)
}

// Is reports whether target is ErrEnded.
func (e *EndedError) Is(target error) bool { return target == ErrEnded }

// Unwrap returns the cause.
func (e *EndedError) Unwrap() error { return e.Err }
