// Package placement decides which node a session goes to.
//
// It is pure: what is known of the nodes, the time and the randomness come in,
// the id of a node comes out. Nothing here opens a socket, reads a clock or
// starts a goroutine, so that a simulation runs the very code that production
// runs.
//
// A broker's picture of the nodes is always a little old, every broker has one
// of its own, and clients arrive some time after they were sent, or never.
// The policy in Least allows for all three.
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
	Region  string // preferred; another region serves when it has no room
	Pool    string // strict; empty means proto.DefaultPool
	Exclude string // id of a node that must not be picked
	Balance bool   // it leaves its node for the sake of balance: it goes to the emptiest
	Key     string // user or group, for policies that keep a key's sessions together; Least does not look at it
}

// Config adjusts Least. The zero value of a field means its default; a broker
// has no reason to set any but Issuer.
type Config struct {
	// Issuer is the id under which the nodes count what this broker sent them
	// (proto.Report.Landed). A policy must not outlive it: its successor would
	// wait for landings that are counted under another name.
	Issuer string

	// Candidates is how many nodes are drawn, by capacity, to pick the least
	// loaded of. Default 3.
	Candidates int
	// Few is the number of eligible nodes up to which all of them are
	// candidates. Default 8.
	Few int
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
	setDefault(&c.Candidates, 3)
	setDefault(&c.Few, 8)
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
	Eligible bool
	Why      string // why it is not eligible
}
