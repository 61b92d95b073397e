package node

import (
	"errors"

	"github.com/usher-broker/usher/proto"
)

// App is the game logic that runs in a node. The node calls the methods of one
// session one at a time, in this order:
//
//	Opened (Message | Detached | Resumed | Reset)* Closed
//
// After Detached the next call is Resumed, Reset or Closed. A session that moves here
// from another node starts with Opened too. The next call is then Resumed, or Reset if
// its stream did not move with it, for example because the other node died. To receive
// the application state of the other node, implement Mover.
//
// The node makes calls for different sessions concurrently. A call that takes long
// delays its own session only. If a call panics, the node logs and counts the panic
// and closes the connection with 4103 internal; a message that was being handled
// counts as handled.
type App interface {
	// Opened starts the life of the session on this node.
	Opened(s *Session)

	// Message delivers one message from the client. The node delivers each reliable
	// message exactly once and in the order sent, and acknowledges it to the client
	// after Message returns. m.Data is valid only until Message returns.
	Message(s *Session, m Message)

	// Detached reports that the connection has ended. Reliable messages that the App
	// sends from now on are kept, within the limits, and delivered on resume.
	Detached(s *Session)

	// Resumed reports that the client is back and the stream continues: no message
	// was lost.
	Resumed(s *Session)

	// Reset reports that the stream could not continue. The client starts a new
	// stream, and messages that it had not confirmed may be lost. If the stream ended
	// because too much was sent to a detached client, the node calls Reset at once,
	// with r.Away set, and again when the client is back.
	Reset(s *Session, r Reset)

	// Closed ends the life of the session on this node and gives the reason. Nothing
	// can be sent after it.
	Closed(s *Session, code proto.CloseCode)
}

// Message is one application message.
type Message = proto.Message

// Reset describes the end of a stream.
type Reset struct {
	// Reason is one of the proto.Reset reasons. It is "" if the client asked for a
	// new stream: it has its token but no longer its stream.
	Reason string
	// Unconfirmed are the reliable messages that were sent to the client and not
	// acknowledged, oldest first. It is empty if this node never had them
	// (proto.ResetNodeLost) and if an earlier Reset has already reported them.
	Unconfirmed []Message
	// Away reports that the client is not back yet. Nothing can be sent to it until
	// the next Reset.
	Away bool
}

// Errors of Session.Send and Session.Close.
var (
	// ErrSlow: the messages that the client has not confirmed have reached the limit,
	// in number or in bytes. The message was not sent. Send it again later, or send less.
	ErrSlow = errors.New("node: too much is unconfirmed: send again later, or send less")
	// ErrOverflow: the same limit was reached while the client was detached. Its
	// stream has ended, and nothing can be sent until the client is back and starts a
	// new one.
	ErrOverflow = errors.New("node: the stream ended: too much was sent while the client was detached")
	// ErrTooLarge: the message is larger than Limits.MessageBytes.
	ErrTooLarge = errors.New("node: message is larger than Limits.MessageBytes")
	// ErrMoving: the session is being moved to another node. Soon either Closed is
	// called, or the move has failed and sending works again.
	ErrMoving = errors.New("node: session is being moved to another node")
	// ErrClosed: the session has ended on this node.
	ErrClosed = errors.New("node: session has ended on this node")
	// ErrCode: an application may not close with this code, or the reason is longer
	// than 123 bytes.
	ErrCode = errors.New("node: an application closes with a code from 4500 to 4999 and a reason of at most 123 bytes")
)
