package usher

import (
	"errors"
	"fmt"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// closeAbnormal stands for a connection that ended without a close code.
const closeAbnormal proto.CloseCode = 1006

// loss is a CutError and what this side has to know beside it.
type loss struct {
	CutError

	local    bool // this side found the error, and closes with the code
	atOnce   bool // no wait before the next attempt
	unopened bool // the attempt did not come to a WebSocket
	refused  bool // because the node did not take the token
	unclear  bool // the attempt ended without the node saying how
}

// broken is a connection that ended without a word.
func broken(err error) *loss { return &loss{CutError: CutError{Code: closeAbnormal, Err: err}} }

// unopened is an attempt that did not come to a WebSocket.
func unopened(err error) *loss {
	l := broken(err)
	l.unopened = true
	return l
}

// violation is a connection on which the node broke the protocol.
func violation(code proto.CloseCode, format string, args ...any) *loss {
	err := fmt.Errorf("%w: %w", errProtocol, fmt.Errorf(format, args...))
	return &loss{CutError: CutError{Code: code, Reason: code.String(), Err: err}, local: true}
}

// lossOf reads how a connection ended from the error of a read.
func lossOf(err error) *loss {
	var ce websocket.CloseError
	if errors.As(err, &ce) {
		return &loss{CutError: CutError{Code: proto.CloseCode(ce.Code), Reason: ce.Reason}}
	}
	return broken(err)
}

// ended is the end of the session that follows from the loss.
func (l *loss) ended() *EndedError { return &EndedError{Code: l.Code, Reason: l.Reason, Err: l.Err} }
