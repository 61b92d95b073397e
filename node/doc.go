// Package node is the WebSocket node of Usher, as a library. Clients attach to a node
// directly. The node runs the application and keeps the sessions of its clients when
// their connections break.
//
// A game implements App and passes it to New. Echo is the smallest App. The node
// numbers and acknowledges messages, keeps each message until the client has
// confirmed it, and sends it again after a break, as proto/PROTOCOL.md specifies.
// Read the code in the order in which a client meets it: connect.go, resume.go,
// read.go, write.go, liveness.go.
//
// # Memory
//
// On Linux an idle session has no goroutine and no buffer: the kernel reports when
// its connection has data. An active session has one goroutine that reads. A
// goroutine that writes exists only while the reader or the caller of Send cannot
// write. An idle session takes about 6.4 KB of resident memory without TLS
// ("usher-bench memory --sessions 8000" measures it). Whatever the client does, a session holds at most Limits.UnackedBytes
// in Limits.UnackedMessages of unconfirmed output, 64 KiB of volatile output and one
// incoming message.
package node
