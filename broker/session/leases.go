package session

import (
	"context"
	"time"
)

// Leases is the part of a Store with which a node serves sessions: it acquires the
// leases, renews and persists them, and gives them up. See Store for what all methods
// have in common.
type Leases interface {
	// Get returns the record. If the session has ended it returns the record and
	// ErrEnded.
	Get(ctx context.Context, id string) (Record, error)

	// Restore returns the record and the stored state of the session to its owner.
	// The stored state is empty if there is none, or if another lease has taken it
	// (see Attach). If the session has ended it returns the record and ErrEnded. If
	// the lease is not the owner's it returns the record and ErrMoved.
	Restore(ctx context.Context, l Lease) (Record, StoredState, error)

	// Attach records that the owner serves the session over a connection, with the
	// stream. It returns the record as it was before; its Stream shows the owner
	// whether there was another stream. The error is ErrMoved if the lease is not
	// the owner's. If take is set, the stored state belongs to this lease from now
	// on, because the owner continues from it: Restore returns it to no later
	// lease. proof is recorded in the same step, as Prove does; 0 means no proof.
	Attach(ctx context.Context, l Lease, stream string, take bool, proof uint64, ttl time.Duration) (Record, error)

	// Renew extends the leases of the sessions that a node serves, and restores the
	// records that a store has lost. Of each record, ID, User, Node, Epoch, State,
	// Stream, Leaving, Pool, Region, Fallback, Strict, Group, Ext and Created must be
	// set. The result has one error for each record: nil, or an error of a Store.
	// ErrEnded and ErrMoved mean that the node must stop serving the session. ttls
	// has the new ttl of each record, in the same order.
	Renew(ctx context.Context, records []Record, ttls []time.Duration) []error

	// Save persists what a node knows of sessions that it serves, each for its next
	// owner: in case the node dies, or, with Leave, because the node is done with
	// the session. It replaces what was saved before, unless that was saved under
	// the same lease, instance included, with an equal or higher Seq: then the call
	// was delayed on its way, and changes nothing. The result has one error for each session: nil,
	// ErrMoved if the lease is not the owner's, or another error of a Store.
	Save(ctx context.Context, list []Saved) []error

	// Move makes another node, to, the owner of the session, as Reassign does. The
	// current owner calls it, and in the same step persists the state of the stream
	// for the next owner. From the call until its outcome is known the caller must
	// not serve the session, nor afterwards if the session has moved.
	Move(ctx context.Context, request string, s Saved, to string) (Record, error)

	// EndAll ends sessions, as Directory.End does, each under the epoch of its Ending
	// and with the close reason of its code. Like End it removes them from their
	// groups. ttl is that of all tombstones. The result has one error for each
	// session, in the same order: nil, also if the session had already ended,
	// ErrMoved if the epoch is not the current one, or another error of a Store.
	EndAll(ctx context.Context, list []Ending, ttl time.Duration) []error

	// Fenced returns a text that changes with each Fence of the node.
	Fenced(ctx context.Context, node string) (string, error)

	Pinger
}

// Lease identifies the owner of a session: a node, at an epoch. Every write of
// a node carries it. A store refuses a write whose node is not the owner or
// whose epoch is not that of the record.
type Lease struct {
	ID    string // of the session
	Node  string
	Epoch uint64
	// Instance distinguishes two starts of one node: the stored state that one
	// instance has taken must not be used by the next. Ownership does not depend
	// on it.
	Instance string
}

// Ending says which session a node has ended, and why.
type Ending struct {
	ID     string
	Epoch  uint64 // under which the node held it; 0 ends the session at any epoch
	Reason Reason
}

// Saved is what a node persists of a session that it serves.
type Saved struct {
	Lease
	Stream string        // that the node serves; the record's stream from now on
	State  []byte        // opaque to the store
	Seq    uint64        // rises with every Save and Move of a lease
	Leave  bool          // the node is done with the session, which becomes Detached
	TTL    time.Duration // of the record and of the stored state
}

// StoredState is what Save or Move persisted for the next owner of a session.
type StoredState struct {
	Stream string // the stream that State belongs to
	State  []byte // nil if there is none
	Seq    uint64 // the last Seq if it was saved under the caller's lease, instance included, else 0; the caller counts on from it
}
