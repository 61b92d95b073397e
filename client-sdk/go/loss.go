package usher

import (
	"errors"
	"fmt"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// closeAbnormal stands for a connection that ended without a close code.
const closeAbnormal proto.CloseCode = 1006

// loss is a CutError with further details for this side.
type loss struct {
	CutError

	local          bool // this side found the error, and closes with the code
	atOnce         bool // make the next attempt without a wait
	unopened       bool // the attempt did not open a WebSocket
	refused        bool // the node refused the token
	outcomeUnknown bool // the attempt ended without a close code: the node may have accepted it
}

// broken returns the loss of a connection that ended without a close code.
func broken(err error) *loss { return &loss{CutError: CutError{Code: closeAbnormal, Err: err}} }

// unopened returns the loss of an attempt that did not open a WebSocket.
func unopened(err error) *loss {
	l := broken(err)
	l.unopened = true
	return l
}

// violation returns the loss of a connection on which the node violated the
// protocol.
func violation(code proto.CloseCode, format string, args ...any) *loss {
	err := fmt.Errorf("%w: %w", errProtocol, fmt.Errorf(format, args...))
	return &loss{CutError: CutError{Code: code, Reason: code.String(), Err: err}, local: true}
}

// lossOf returns the loss that the error of a read means.
func lossOf(err error) *loss {
	var ce websocket.CloseError
	if errors.As(err, &ce) {
		return &loss{CutError: CutError{Code: proto.CloseCode(ce.Code), Reason: ce.Reason}}
	}
	return broken(err)
}

// ended returns the end of the session that the loss causes.
func (l *loss) ended() *EndedError { return &EndedError{Code: l.Code, Reason: l.Reason, Err: l.Err} }
