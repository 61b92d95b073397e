// Package simulate runs the placement code of production against a model of a
// cluster. Clients arrive at brokers, connect to a node some time later or never,
// and stay for a while. Nodes report with a delay, die, drain, flap and join. The
// package measures how evenly the nodes are loaded, and compares that with an
// oracle that knows the exact load of every node and all sessions under way.
//
// A Scenario is data; some come with the package.
package simulate
