// Package node is the WebSocket node of Usher, as a library. Clients attach to a node
// directly. The node runs the application and keeps the sessions of its clients when
// their connections break.
//
// A game implements App. Package node/serve runs it as a process, with the flags of
// usher node, and package node/dev runs a whole cluster with it for development; New is
// for a program that has its own listeners. Echo is the smallest App. The node
// numbers and acknowledges messages, keeps each message until the client has
// confirmed it, and sends it again after a break, as proto/PROTOCOL.md specifies.
//
// # Files
//
// The files form layers. A file calls functions of its own layer and of those above it
// in this list, never of those below.
//
//   - app.go, config.go: what a game implements and configures.
//   - A session. phase.go says what a session may do when, and how it
//     is closed. session.go sends, state.go
//     is what is stored of a session, checkpoint.go stores it while it is served,
//     callbacks.go calls the App, conn.go and write.go are a connection, acks.go
//     acknowledges, liveness.go pings and times out, departures.go orders the sessions
//     that may be asked to leave, end.go ends connections and sessions. node.go holds
//     all sessions.
//   - What happens to a session: acquire.go (look up, authorise, acquire the lease),
//     attach.go, move.go, persist.go.
//   - What others order: command.go, drain.go, rebalance.go.
//   - connect.go (the handshake), run.go, metrics.go, apps.go.
//
// Two packages below know nothing of sessions: internal/wire reads and writes
// WebSockets, internal/lease renews leases, stores checkpoints, and stops messages of a
// process that did not run. docs/path.md draws how a session passes through the files.
//
// # Locks
//
// A goroutine that holds a lock may lock only those that come later in this list:
//
//  1. Session.callbackLock, held during each call of the App for the session. An App
//     may call any method of any Session.
//  2. Node.mu.
//  3. Session.mu, which protects its connection as well. Never two at a time.
//  4. The lock of the lease keeper.
//  5. Any other: the timers, the queues of departures.go and acks.go. Nothing is locked
//     while one of these is held.
//
// internal/wire is called without Session.mu, except for what never waits. Built with
// the tag lockorder, the locks check the order ("go test -tags lockorder ./test/chaos").
//
// # Memory
//
// On Linux an idle session has no goroutine and no buffer: the kernel reports when
// its connection has data. An active session has one goroutine that reads. A
// goroutine that writes exists only while the reader or the caller of Send cannot
// write. An idle session takes about 4.2 KB of resident memory without TLS
// ("usher-bench memory --sessions 8000" measures it). Whatever the client does, a
// session holds at most Limits.UnackedBytes in Limits.UnackedMessages of unconfirmed
// output, 64 KiB of volatile output and one incoming message.
package node
