// Package dev runs a whole Usher cluster in one process, with the caller's
// application and without Redis, for development. Main is the whole program of a
// game's first day:
//
//	package main
//
//	import "github.com/usher-broker/usher/node/dev"
//
//	func main() { dev.Main(game{}) } // game implements node.App
//
// The cluster has the parts of a production cluster: an auth, a broker with the
// private API, and several nodes that gossip on loopback. Sessions are kept in
// memory and end with the process. Guests may log in under any name. For
// production, use package node/serve in place of this package.
package dev
