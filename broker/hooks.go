package broker

import (
	"errors"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
)

// Hooks are called as things happen, for metrics. Any may be nil. They may be
// called concurrently and must not block.
type Hooks struct {
	// Assigned is called after every Assign, Ended after every End, with how
	// it went.
	Assigned func(result Result)
	Ended    func(result Result)
	// Reassigned is called after every Reassign. For those that succeeded,
	// reason says why the session is where it is; it is "" for the others.
	Reassigned func(result Result, reason Reason)
	// Picked is called after every question to the placement, with the time it
	// took, that for the lock included.
	Picked func(result Result, took time.Duration)
	// Commanded is called when the status of a command to a node is known.
	Commanded func(op string, status CommandStatus)
	// Probed is called after every probe of a node, with why it failed, or nil.
	Probed func(node string, err error)
	// Waited is called when a login is told to wait, is let in, or gives up its
	// place, with how many wait in its line now.
	Waited func(pool string, what Waited, waiting int)
}

// Result is how a decision ended.
type Result string

// The results.
const (
	OK               Result = "ok"
	Invalid          Result = "invalid"           // the request cannot be
	NoSigner         Result = "no_signer"         // this broker signs no tokens
	NoCapacity       Result = "no_capacity"       // every node is full
	NoNodes          Result = "no_nodes"          // no node is ready
	Connected        Result = "connected"         // the user has a session already, and the policy refuses another
	NotFound         Result = "not_found"         // no such session
	SessionEnded     Result = "session_ended"     // the session is over
	StoreUnavailable Result = "store_unavailable" // the store does not answer
	Failed           Result = "failed"            // anything else; a bug or a broken store
)

// Results lists the results above.
var Results = []Result{OK, Invalid, NoSigner, NoCapacity, NoNodes, Connected, NotFound, SessionEnded, StoreUnavailable, Failed}

// Reason is why a session that asked where to go is where it is.
type Reason string

// The reasons. All but the first five moved the session.
const (
	Stayed      Reason = "stayed"      // its node is there and may keep it
	OnlyOne     Reason = "only_one"    // it should have moved, but no other node has room
	Followed    Reason = "followed"    // another request moved it a moment before
	Held        Reason = "held"        // it should have moved, but its application holds it back
	Busy        Reason = "busy"        // it should have moved, but its node did not hand it over in time
	Gone        Reason = "gone"        // its node has left the cluster
	Draining    Reason = "draining"    // its node gives its sessions away
	Unreachable Reason = "unreachable" // its client cannot reach its node
	Full        Reason = "full"        // its node was full before the client came
	Rebalance   Reason = "rebalance"   // its node has too many
)

// Reasons lists the reasons above.
var Reasons = []Reason{Stayed, OnlyOne, Followed, Held, Busy, Gone, Draining, Unreachable, Full, Rebalance}

// CommandStatus is what became of a command.
type CommandStatus string

// The statuses. A node that a command did not reach learns the same from the
// store, the next time it renews its sessions.
const (
	CarriedOut CommandStatus = "carried_out" // the node held the session
	NotHeld    CommandStatus = "not_held"    // the node did not hold the session
	Refused    CommandStatus = "refused"     // the node said why it did not
	Unanswered CommandStatus = "unanswered"  // no answer in time
	Absent     CommandStatus = "absent"      // not sent: the node is not a member
	TooMany    CommandStatus = "too_many"    // not sent: too many are under way
)

// CommandStatuses lists the statuses above.
var CommandStatuses = []CommandStatus{CarriedOut, NotHeld, Refused, Unanswered, Absent, TooMany}

func (h Hooks) withDefaults() Hooks {
	if h.Assigned == nil {
		h.Assigned = func(Result) {}
	}
	if h.Ended == nil {
		h.Ended = func(Result) {}
	}
	if h.Reassigned == nil {
		h.Reassigned = func(Result, Reason) {}
	}
	if h.Picked == nil {
		h.Picked = func(Result, time.Duration) {}
	}
	if h.Commanded == nil {
		h.Commanded = func(string, CommandStatus) {}
	}
	if h.Probed == nil {
		h.Probed = func(string, error) {}
	}
	if h.Waited == nil {
		h.Waited = func(string, Waited, int) {}
	}
	return h
}

// Waited is what became of a place in a line.
type Waited string

// What can become of a place in a line.
const (
	Queued    Waited = "queued"     // a login was given a place
	Kept      Waited = "kept"       // it was asked for again, and has to wait on
	Admitted  Waited = "admitted"   // its session was opened
	Abandoned Waited = "abandoned"  // it was not asked for any more
	TurnedOff Waited = "turned_off" // the line was too long, or the login was refused after all
)

// AllWaited lists them.
var AllWaited = []Waited{Queued, Kept, Admitted, Abandoned, TurnedOff}

func resultOf(err error) Result {
	switch {
	case err == nil:
		return OK
	case errors.Is(err, ErrInvalid):
		return Invalid
	case errors.Is(err, ErrNoSigner):
		return NoSigner
	case errors.Is(err, placement.ErrNoCapacity):
		return NoCapacity
	case errors.Is(err, placement.ErrNoNodes):
		return NoNodes
	case errors.Is(err, session.ErrConnected):
		return Connected
	case errors.Is(err, session.ErrNotFound):
		return NotFound
	case errors.Is(err, session.ErrEnded):
		return SessionEnded
	case errors.Is(err, session.ErrUnavailable):
		return StoreUnavailable
	}
	return Failed
}
