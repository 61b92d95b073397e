package node

import (
	"errors"

	"github.com/usher-broker/usher/proto"
)

// App is what a game puts into a node. The node calls the methods of one
// session one at a time, in the order of the life of the session:
//
//	Opened (Message | Detached | Resumed | Reset)* Closed
//
// After Detached comes Resumed, or Reset, or the end. A session that moves here
// from another node begins with Opened as well, and then Resumed, or Reset if
// its stream did not come along, as when that node died; an App that wants what
// the other one knew is a Mover.
//
// Calls for different sessions run concurrently. A call that takes long holds
// up its own session alone. A call that panics is logged and counted, and the
// connection is closed with 4103 internal; the message it was given counts as
// handled.
type App interface {
	// Opened starts the life of a session on this node.
	Opened(s *Session)

	// Message hands over one message, each reliable one exactly once and in the
	// order sent. m.Data is valid until Message returns. The message is
	// acknowledged to the client after that.
	Message(s *Session, m Message)

	// Detached says that the connection is gone. What is sent meanwhile is
	// kept and delivered on resume, within the limits.
	Detached(s *Session)

	// Resumed says that the client is back and the stream continues: nothing
	// was lost.
	Resumed(s *Session)

	// Reset says that the client is back and the stream could not continue: the
	// client starts anew, and what it had not confirmed may be lost. Where too
	// much was sent to a client that was away, it comes at once, with r.Away
	// set, and again when the client is back.
	Reset(s *Session, r Reset)

	// Closed ends the life of the session on this node and says why. Nothing
	// can be sent any more.
	Closed(s *Session, code proto.CloseCode)
}

// Message is one application message.
type Message = proto.Message

// Reset describes the end of a stream.
type Reset struct {
	// Reason is one of the proto.Reset reasons, or "" when the client itself
	// asked for a new stream (it kept only its token).
	Reason string
	// Unconfirmed are the reliable messages that were sent to the client and
	// not acknowledged, oldest first. Empty when this node never had them
	// (proto.ResetNodeLost), or App has been told of them.
	Unconfirmed []Message
	// Away says that the client is not back yet. Nothing can be sent to it
	// until the next Reset.
	Away bool
}

// Errors of Session.Send and Session.Close.
var (
	// ErrSlow: the client has as much unconfirmed as the limits allow. Send
	// again later, or send less.
	ErrSlow = errors.New("node: client is slow: too much unconfirmed")
	// ErrOverflow: the same, while the client was away. Its stream has ended:
	// nothing can be sent until the client is back and starts a new one.
	ErrOverflow = errors.New("node: stream overflowed while detached")
	// ErrTooLarge: the message is over Limits.MessageBytes.
	ErrTooLarge = errors.New("node: message too large")
	// ErrMoving: the session is on its way to another node. In a moment Closed
	// follows, or, if the move came to nothing, sending works again.
	ErrMoving = errors.New("node: session is moving")
	// ErrClosed: the session is over on this node.
	ErrClosed = errors.New("node: session closed")
	// ErrCode: not a code an application may close with.
	ErrCode = errors.New("node: close code is not in 4500 to 4999")
)
