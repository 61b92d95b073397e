// Package placement decides which node a session goes to.
//
// It is pure: what is known of the nodes, the time and the randomness come in,
// the id of a node comes out. Nothing here opens a socket, reads a clock or
// starts a goroutine, so that a simulation runs the very code that production
// runs.
//
// A broker's picture of the nodes is always a little old, every broker has one
// of its own, and clients arrive some time after they were sent, or never.
// Table allows for all three. Among the nodes that may be given a session a
// Policy picks; Least is the one for all who have no reason to want another.
package placement

import (
	"errors"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Errors of Pick.
var (
	// ErrNoCapacity says that there are nodes a session could go to, and all
	// of them are full.
	ErrNoCapacity = errors.New("placement: every node is full")
	// ErrNoNodes says that no node is alive and ready for what was asked.
	ErrNoNodes = errors.New("placement: no node is ready")
)

// Hints say what is known of a session that wants a node.
type Hints struct {
	Region string // preferred; another region serves when it has no room
	// Fallback are the regions that serve before any other, in this order, when
	// Region has no room.
	Fallback []string
	Strict   bool   // no region but Region and Fallback serves
	Pool     string // strict; empty means proto.DefaultPool
	Exclude  string // id of a node that must not be picked
	Balance  bool   // it leaves its node for the sake of balance: it goes to the emptiest
	Key      string // user or group, for policies that keep a key's sessions together
}

// Config adjusts a Table. The zero value of a field means its default; a broker
// has no reason to set any but the first three.
type Config struct {
	// Issuer is the id under which the nodes count what this broker sent them
	// (proto.Report.Arrived). A policy must not outlive it: its successor would
	// wait for landings that are counted under another name.
	Issuer string

	// Policy returns the policy for a pool; it is called once for each. A policy
	// that keeps anything must be another value each time. Default: Least.
	Policy func(pool string) Policy

	// Probed says that SetReach is told of every node. Until then a node gets no
	// sessions.
	Probed bool

	// ReportAge is how long a node is believed to be as it last said. Default
	// 3.5 s: three reports lost in a row.
	ReportAge time.Duration
	// Underfull is the part of the mean load by which a node must be under it
	// to get boosted picks. Default 0.05.
	Underfull float64
	// FillTime is how long boosted picks take, at the least, to fill an empty
	// node. Default 60 s.
	FillTime time.Duration
	// Ramp is how long it takes, after a node is first seen, until its boosted
	// picks reach their full rate. Default 10 s.
	Ramp time.Duration
	// ShareMemory is the time constant of the moving average over landings
	// that tells this broker's share of them. Default 10 s.
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

// NodeView is what a broker knows of a node and makes of it.
type NodeView struct {
	Peer     proto.Peer
	Report   proto.Report  // the last; zero when there was none since the node started
	Age      time.Duration // since the node last told its load
	Pending  int           // sessions sent there by this broker that have not landed
	Estimate float64       // sessions it is taken to hold, with those under way from every broker
	Reach    Reach
	// Unreached is why clients cannot get in, or what the last try said.
	Unreached   string
	LoadPenalty int // percent by which it is given fewer than its capacity would have it
	Eligible    bool
	Why         string // why it is not eligible
}

// Reach says whether clients can get in at a node's address.
type Reach uint8

// What is known of an address.
const (
	Unproven    Reach = iota // not tried yet
	Reached                  // the last tries got in
	Unreachable              // the last tries did not, earlier ones did
	Shut                     // nobody ever got in
)

func (r Reach) String() string {
	return [...]string{"untried", "reached", "unreachable", "shut"}[r]
}
