// Package e2e tests the built binary: real processes on loopback, a real
// redis-server, real gossip, and clients that speak with the public SDK or, to
// misbehave, with bare sockets.
//
// The binary is built once per run. The environment chooses:
//
//	USHER_BIN=FILE     test this binary and build none
//	USHER_TEST_RACE=1  build it with the race detector
//	USHER_SLOW=1       longer outages, more random schedules
package e2e
