// Package conformance is a scripted server for whoever writes a client SDK: auth
// and two nodes that do, on purpose, what networks and clusters do to clients, and
// judge what the client makes of it. The fault is chosen by the name that logs in.
//
// The program under test logs in as a guest with the name of a scenario, sends
// the texts 1 to 30, one about every 20 ms, and takes in what it is sent, until
// its session is over; then it ends. Where a stream is reset it goes on counting,
// and sends nothing again.
package conformance
