// Package conformance is a scripted server that tests a client SDK: an auth and two
// nodes. They simulate the faults of networks and clusters, and judge how the client
// handles them. The name that logs in selects the fault.
//
// The program under test logs in as a guest with the name of a scenario, sends the
// texts 1 to 30, one about every 20 ms, and handles the messages that it receives,
// until its session ends; then it exits. When its stream is reset it continues to
// count, and sends nothing again.
package conformance
