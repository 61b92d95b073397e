// Package chaos runs whole clusters in a network of its own making, on a clock
// of its own, through random schedules of what goes wrong, and checks what must
// always hold.
//
// Everything is the code of production: auth, brokers, nodes and the Go SDK.
// Only the network, the gossip and the clock are the test's, so that a minute of
// cuts, drains and crashes takes milliseconds, and a schedule that fails is
// made smaller and can be run again by its seed.
package chaos
