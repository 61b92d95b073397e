// Package usher is the client of an Usher cluster: it logs in, attaches to the
// node it is given, and keeps one session alive over as many connections as it
// takes.
//
//	s, err := usher.Connect(ctx, usher.Config{
//		Auth:        "https://auth.example.com",
//		Credentials: usher.Guest("ada"),
//	})
//
// What is sent and received with [Session.Send] and [Session.Receive] is
// delivered exactly once and in order while the node lives, however often the
// connection is cut in between; nothing needs to be done about a cut. When the
// messages in flight could not be kept, because the node died for example, the
// session goes on with a new stream and [Config.OnReset] is told which of the
// client's own messages were never confirmed.
//
// # Concurrency
//
// All methods of a [Session] may be called from any goroutine. Send from one
// goroutine where the order matters, and receive in one: a message counts as
// handled when Receive is called again. [Config.OnState] and [Config.OnReset]
// are called one at a time by a goroutine of the session, which does nothing
// else meanwhile. A session has three goroutines while it is attached, a few
// more while it changes its connection, and none once Close or Logout has
// returned without an error of its context.
// What waits takes a context, and gives up when that ends; ending it never ends
// the session.
//
// # Limits
//
// The node sets the bounds in its welcome: by default 64 KiB for a message, and
// 1,024 reliable messages or 256 KiB that are sent and not confirmed, counted
// while detached too. At a bound Send waits and TrySend returns [ErrFull]; a
// message that is too large is [ErrTooLarge] and is not sent. For an
// application that does not receive, the session keeps as much as the node may
// send without a confirmation, but not more than 16 MiB and a message; then it
// stops reading. Of volatile messages it keeps the 256 newest, either way.
//
// # Errors
//
// Choose by [errors.Is] and [errors.As]. When auth refuses, the error wraps its
// *[proto.Problem], with the wait that it asks for. When the session is over,
// every send returns an *[EndedError], which matches [ErrEnded] and has the
// close code, and so does Receive when it has handed over what was left: log in
// anew, or do not. A cut is not an error of any method; it is told to OnState as
// a *[CutError].
//
// The protocol is in proto/PROTOCOL.md of the project. The states of a session
// are in client-sdk/README.md.
package usher
