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
// An idle session costs one goroutine, which waits on a stack of 2 KiB and
// holds no buffer; a writer goroutine exists only while there is something to
// write; in all some 8 KB resident (usher bench memory measures it). Whatever a
// peer does, a session holds at most Limits.UnackedBytes in
// Limits.UnackedMessages of unconfirmed output, 64 KiB of volatile output and
// one incoming message.
package node
