// Package wire is the server side of a WebSocket connection (RFC 6455) above a
// net.Conn: the answer to the handshake, frames, gathered writes, deadlines, rates and
// the close handshake. It knows nothing of what the messages mean.
//
// Most connections of a server are silent most of the time, so the cost of waiting is
// the cost of a connection. A connection that waits for the next frame has no buffer,
// and its goroutine has the smallest stack. On systems with epoll a connection that
// was silent for a while has no goroutine either (Conn.Rest).
//
// There are three kinds of connections. Plain TCP is read and written without waiting
// first, and waits only if the kernel has no data or no space. TLS holds a buffer while
// it waits, until it rests. Any other net.Conn works too, but never rests.
package wire
