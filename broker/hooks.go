package broker

import (
	"errors"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
)

// Hooks are called on events, for metrics. Any field may be nil. They may be
// called concurrently and must not block.
type Hooks struct {
	// Assigned is called after every Assign and Ended after every End or EndUser,
	// with the result.
	Assigned func(result Result)
	Ended    func(result Result)
	// Reassigned is called after every Reassign. If it succeeded, reason says why
	// the session is where it is; otherwise reason is "".
	Reassigned func(result Result, reason Reason)
	// Picked is called after every pick of the placement. took is the duration,
	// including the wait for the lock.
	Picked func(result Result, took time.Duration)
	// Commanded is called when the status of a command to a node is known.
	Commanded func(op string, status CommandStatus)
	// Probed is called after every probe of a node, with its error or nil.
	Probed func(node string, err error)
	// Waited is called when a login starts to wait, keeps waiting, is admitted,
	// or leaves the queue. waiting is the length of its queue then.
	Waited func(pool string, what Waited, waiting int)
}

// Result is the outcome of a decision.
type Result string

// The results.
const (
	OK               Result = "ok"
	Invalid          Result = "invalid"           // the request is invalid
	NoSigner         Result = "no_signer"         // this broker has no signing key
	NoCapacity       Result = "no_capacity"       // every node is full
	NoNodes          Result = "no_nodes"          // no node is ready
	Connected        Result = "connected"         // the user has a session, and the policy rejects another
	NotFound         Result = "not_found"         // no such session
	SessionEnded     Result = "session_ended"     // the session has ended
	StoreUnavailable Result = "store_unavailable" // the store did not answer
	Failed           Result = "failed"            // anything else: a bug or a faulty store
)

// Results lists the results above.
var Results = []Result{OK, Invalid, NoSigner, NoCapacity, NoNodes, Connected, NotFound, SessionEnded, StoreUnavailable, Failed}

// Reason says why Reassign returned the node it did.
type Reason string

// The reasons. With the first five the session did not move in this request; with
// the others it did.
const (
	Stayed      Reason = "stayed"      // its node is alive and keeps it
	OnlyOne     Reason = "only_one"    // it should have moved, but no other node has capacity
	Followed    Reason = "followed"    // another request moved it first
	Held        Reason = "held"        // it should have moved, but the application holds it
	Busy        Reason = "busy"        // it should have moved, but its node did not hand it over in time
	Gone        Reason = "gone"        // its node has left the cluster
	Draining    Reason = "draining"    // its node drains
	Unreachable Reason = "unreachable" // its client cannot reach its node
	Full        Reason = "full"        // its node became full before the client attached
	Rebalance   Reason = "rebalance"   // its node holds more than its fair share
)

// Reasons lists the reasons above.
var Reasons = []Reason{Stayed, OnlyOne, Followed, Held, Busy, Gone, Draining, Unreachable, Full, Rebalance}

// CommandStatus is the outcome of a command to a node.
type CommandStatus string

// The statuses. A node that did not get a command learns the same from the store
// when it next renews its leases.
const (
	CarriedOut CommandStatus = "carried_out" // the node held the session
	NotHeld    CommandStatus = "not_held"    // the node did not hold the session
	Refused    CommandStatus = "refused"     // the node refused and said why
	Unanswered CommandStatus = "unanswered"  // no answer in time
	Absent     CommandStatus = "absent"      // not sent: the node is not a member
	TooMany    CommandStatus = "too_many"    // not sent: too many commands are under way
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

// Waited is an event of a login in a queue.
type Waited string

// The events.
const (
	Queued    Waited = "queued"     // the login joined the queue
	Kept      Waited = "kept"       // the login asked again and keeps waiting
	Admitted  Waited = "admitted"   // its session was opened
	Abandoned Waited = "abandoned"  // the login stopped asking
	TurnedOff Waited = "turned_off" // the queue was too long, or the login was refused
)

// AllWaited lists the events above.
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
