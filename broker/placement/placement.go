// Package placement decides which node a session is assigned to.
//
// It is pure: the inputs are the known state of the nodes, the time and a source
// of randomness; the output is the id of a node. It opens no sockets, reads no
// clock and starts no goroutines, so that the simulation runs the same code as
// production.
//
// A broker's view of the nodes is always slightly old, every broker has its own,
// and clients arrive some time after they were sent, or never. Table accounts for
// all three. A Policy picks among the nodes that may be given a session; use
// Least unless there is a reason for another.
package placement

import (
	"errors"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Errors of Pick.
var (
	// ErrNoCapacity: all nodes that could take the session are full.
	ErrNoCapacity = errors.New("placement: every node is full")
	// ErrNoNodes: no node that matches the request is alive and ready.
	ErrNoNodes = errors.New("placement: no node is ready")
)

// Hints describe the session that needs a node.
type Hints struct {
	Region string // preferred; other regions are used if it has no capacity
	// Fallback are the regions that are used before all others, in this order, if
	// Region has no capacity.
	Fallback []string
	Strict   bool   // only Region and Fallback may be used
	Pool     string // required; empty means proto.DefaultPool
	Exclude  string // id of a node that must not be picked
	Balance  bool   // it leaves its node for rebalancing: pick the least loaded node
	Key      string // user or group, for policies that keep the sessions of a key together
}

// Config configures a Table. The zero value of a field means its default. A
// broker normally sets only the first three.
type Config struct {
	// Issuer is the id under which the nodes count the arrivals of this broker's
	// sessions (proto.Report.Arrived). A Table must not be used under another
	// issuer: it would wait for arrivals that are counted under the old one.
	Issuer string

	// Policy returns the policy for a pool; it is called once for each pool. A
	// policy that keeps state must be a new value each time. Default: Least.
	Policy func(pool string) Policy

	// Probed says that SetReach is called for every node. Until then a node gets
	// no sessions.
	Probed bool

	// ReportAge is how long the last report of a node is valid. Default 3.5 s:
	// three reports in a row were lost.
	ReportAge time.Duration
	// Underfull is the fraction of the mean load by which a node must be below it
	// to get boosted picks. Default 0.05.
	Underfull float64
	// FillTime is the least time in which boosted picks fill an empty node.
	// Default 60 s.
	FillTime time.Duration
	// Ramp is the time after a node is first seen until its boosted picks reach
	// their full rate. Default 10 s.
	Ramp time.Duration
	// ShareMemory is the time constant of the moving average over the arrivals
	// that estimates this broker's share of them. Default 10 s.
	ShareMemory time.Duration
}

func (c Config) withDefaults() Config {
	if c.Policy == nil {
		c.Policy = func(string) Policy { return Least{} }
	}
	setDefault(&c.ReportAge, 3500*time.Millisecond)
	setDefault(&c.Underfull, 0.05)
	setDefault(&c.FillTime, time.Minute)
	setDefault(&c.Ramp, 10*time.Second)
	setDefault(&c.ShareMemory, 10*time.Second)
	return c
}

func setDefault[T int | float64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// NodeView is what a broker knows of a node and how it rates it.
type NodeView struct {
	Peer     proto.Peer
	Report   proto.Report  // the last one; zero if none came since the node started
	Age      time.Duration // since the last report
	Pending  int           // sessions that this broker sent there and that have not arrived
	Estimate float64       // sessions it is estimated to hold, with those under way from every broker
	Reach    Reach
	// Unreached is why clients cannot connect, or the error of the last failed
	// probe.
	Unreached   string
	LoadPenalty int // percent by which it gets fewer sessions than its capacity allows
	Eligible    bool
	Why         string // why it is not eligible
}

// Reach says whether clients can connect to a node's address.
type Reach uint8

// The results of the probes of an address.
const (
	Untried      Reach = iota // not probed yet
	Reached                   // the last probes succeeded
	Unreachable               // the last probes failed, earlier ones succeeded
	NeverReached              // no probe ever succeeded
)

func (r Reach) String() string {
	return [...]string{"untried", "reached", "unreachable", "never_reached"}[r]
}
