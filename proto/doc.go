// Package proto defines what crosses a process boundary in Usher: the bodies
// of the HTTP interfaces, the claims of a token, the messages and controls of
// the session protocol, its close codes, and the records that cluster members
// exchange.
//
// It imports nothing beyond the standard library, so that a client pulls in
// nothing else. PROTOCOL.md and openapi.yaml beside this file are normative;
// the types here follow them, and the vectors in the vectors directory hold
// every implementation to them.
//
// All functions are safe for concurrent use; decoders never retain their input
// and never allocate more than a small multiple of its length.
package proto

// Subprotocol is the WebSocket subprotocol of this version of the session
// protocol. A client offers it and the node selects it.
const Subprotocol = "usher.v1"

// TokenSubprotocolPrefix precedes the token where a client cannot set headers:
// it is offered as one more subprotocol and never echoed.
const TokenSubprotocolPrefix = "usher.token."

// ConnectPath is the path on a node at which clients attach.
const ConnectPath = "/v1/connect"

// Names of the query parameters of the connect path.
const (
	QueryStream   = "stream"   // the stream the client wants to resume
	QueryReceived = "received" // how many reliable messages of it the client has taken in
	QueryClient   = "client"   // names the process of the client; optional
	QueryAttempt  = "attempt"  // rises with every attempt of one client; optional
)
