// Package serve runs a node as a process of a cluster. Main gives a game
// everything that the usher node command has: flags and environment variables,
// TLS with reload, gossip, the ops port with metrics, connection limits, and a
// drain on SIGTERM. Run is the same without flags.
//
//	package main
//
//	import "github.com/usher-broker/usher/node/serve"
//
//	func main() { serve.Main(game{}) } // game implements node.App
//
// A node needs Redis and the JWKS URL of an auth. Package node/dev runs a whole
// cluster in one process without either, for development.
package serve
