// Package node is the WebSocket node of Usher, as a library: clients attach to
// it straight, and it keeps their sessions across cuts of their connections.
//
// A game implements App and hands it to New; Echo is the smallest one. The
// node counts messages, acknowledges, keeps what the peer has not confirmed
// and sends it again after a cut, exactly as proto/PROTOCOL.md says. The path
// of a client: connect.go, resume.go, read.go, write.go, liveness.go.
//
// # Memory
//
// A session that is idle, on Linux, has no goroutine and no buffer: the kernel says
// when there is something to read. One that talks has a goroutine that reads; one
// that writes exists only while nobody else can write. In all an idle session takes
// some 7 KB resident (usher bench memory measures it). Whatever a peer does, a
// session holds at most Limits.UnackedBytes in
// Limits.UnackedMessages of unconfirmed output, 64 KiB of volatile output and
// one incoming message.
package node
