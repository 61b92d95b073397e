// Package proto defines the data that crosses a process boundary in Usher: the
// bodies of the HTTP interfaces, the claims of a token, the messages and
// controls of the session protocol, its close codes, and the records that
// cluster members exchange.
//
// The package imports only the standard library, so that a client has no other
// dependency. PROTOCOL.md and openapi.yaml in this directory are normative, and
// the types here follow them. The vectors in the directory vectors test every
// implementation against them.
//
// All functions are safe for concurrent use. Decoders do not retain their input
// and do not allocate more than a small multiple of its length.
package proto

// Subprotocol is the WebSocket subprotocol of this version of the session
// protocol. A client offers it and the node selects it.
const Subprotocol = "usher.v1"

// TokenSubprotocolPrefix precedes the token where a client cannot set headers.
// The client then offers prefix and token as one more subprotocol, which the
// node never echoes.
const TokenSubprotocolPrefix = "usher.token."

// ConnectPath is the path on a node at which clients attach.
const ConnectPath = "/v1/connect"

// Names of the query parameters of the connect path.
const (
	QueryStream   = "stream"   // the stream that the client wants to resume
	QueryReceived = "received" // the number of reliable messages of it that the client has accepted
	QueryClient   = "client"   // identifies the client process; optional
	QueryAttempt  = "attempt"  // rises with every attempt of one client process; optional
)
