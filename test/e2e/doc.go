// Package e2e tests the usher binary. It starts real processes on loopback with a
// real redis-server and real gossip. Clients use the public SDK, or plain sockets
// to violate the protocol.
//
// The binary is built once per run, and usher-bench where a test needs it.
// Environment variables:
//
//	USHER_BIN=FILE     test this binary instead of building one
//	USHER_TEST_RACE=1  build the binary with the race detector
//	USHER_SLOW=1       longer outages, more random schedules
package e2e
