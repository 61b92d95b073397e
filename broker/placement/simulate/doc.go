// Package simulate runs the placement code that production runs against a model
// of a cluster: clients arrive at brokers, connect some time later or never,
// stay for a while; nodes report with a delay, die, drain, flap and join. It
// measures how even the nodes are kept, beside an oracle that knows every node
// exactly and all that is under way.
//
// A Scenario is data, and so are the ones that come with the package.
package simulate
