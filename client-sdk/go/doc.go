// Package usher is the client of an Usher cluster. It logs in, attaches to the
// node that auth names, and keeps one session alive over any number of
// connections.
//
//	s, err := usher.Connect(ctx, usher.Config{
//		Auth:        "https://auth.example.com",
//		Credentials: usher.Guest("ada"),
//	})
//
// Messages sent with [Session.Send] and received with [Session.Receive] are
// delivered exactly once and in order as long as the node lives, however often the
// connection is cut. The application does not have to react to a cut. When the
// messages in flight could not be kept, for example because the node died, the
// session continues with a new stream, and [Config.OnReset] receives the messages of
// the client that were never confirmed.
//
// # Concurrency
//
// All methods of a [Session] may be called from any goroutine. If the order of
// messages matters, send from one goroutine. Receive from one goroutine: a message
// counts as handled when Receive is called again. One goroutine of the session
// calls [Config.OnState] and [Config.OnReset], one at a time, and does nothing else
// until they return. A session has three goroutines while it is attached, a few
// more while it changes its connection, and none after Close or Logout has returned
// without an error of its context.
// Every method that waits has a context, and returns when the context ends. The end
// of a context never ends the session.
//
// # Limits
//
// The node sets the limits in its welcome: by default 64 KiB for a message, and
// 1,024 reliable messages or 256 KiB that are sent and not confirmed, also while
// detached. At a limit Send waits and TrySend returns [ErrFull]. A message that is
// too large is refused with [ErrTooLarge]. If the application does not receive, the
// session keeps as many messages as the node may send without a confirmation, but
// not more than 16 MiB plus one message; then it stops reading. In each direction it
// keeps at most the 256 newest volatile messages.
//
// # Errors
//
// Compare errors with [errors.Is] and [errors.As]. When auth refuses, the error
// wraps its *[proto.Problem], with the wait that auth asks for. When the session has
// ended, every send returns an *[EndedError], which matches [ErrEnded] and has the
// close code. Receive returns it too, after the remaining messages. To continue, log
// in again. A cut is not an error of any method: OnState receives it as a
// *[CutError].
//
// proto/PROTOCOL.md of the project specifies the protocol. client-sdk/README.md
// describes the states of a session.
package usher
