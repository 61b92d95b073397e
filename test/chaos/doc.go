// Package chaos runs clusters on a simulated network and a simulated clock through
// random schedules of faults, and checks the guarantees that must always hold.
//
// Auth, brokers, nodes and the Go SDK are the production code. Only the network, the
// gossip and the clock are simulated. So a minute of cuts, drains and crashes takes
// milliseconds, and a failing schedule is reduced and can be replayed from its seed.
package chaos
