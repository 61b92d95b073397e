// Package process holds what the process of every role has in common: flags for
// gossip, the session store, TLS and connection limits; listeners and HTTP
// servers; the ops port; and the order in which all of it stops.
//
// It is used by usher auth, usher broker, usher node (package node/serve) and
// the development cluster (package node/dev).
package process
