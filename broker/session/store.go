package session

import (
	"context"
	"errors"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Errors of a Store. Callers choose by them with errors.Is.
var (
	// ErrNotFound: no such session; it never was, or its time is over.
	ErrNotFound = errors.New("session: not found")
	// ErrEnded: the session is over; the record that comes with it says why.
	ErrEnded = errors.New("session: ended")
	// ErrMoved: the session belongs to another node or a later epoch; the
	// record that comes with it says which.
	ErrMoved = errors.New("session: moved")
	// ErrExists: a session with that id exists and was made by another request.
	ErrExists = errors.New("session: exists")
	// ErrUnavailable: the store did not answer in time, or not sensibly.
	// Whether the transition was made is not known; repeating it with the same
	// request id is safe.
	ErrUnavailable = errors.New("session: store unavailable")
)

// Lease is a node's claim on a session: every write of a node carries it, and
// a store refuses a claim of another owner or an earlier epoch.
type Lease struct {
	ID    string
	Node  string
	Epoch uint64
}

// Store keeps the records. Every method is one atomic step, safe for
// concurrent use, and returns ErrUnavailable (wrapped) when the store cannot
// be reached; a cancelled or expired ctx is that too.
//
// Request ids make transitions idempotent: a transition that is repeated with
// its id succeeds and returns the record as it stands, until another one with
// an id has changed the record. Each call for a new purpose takes a new id
// (NewRequest).
//
// Every record is kept for the ttl of its last transition and then forgotten.
type Store interface {
	// Create adds a record with epoch 1 and state Assigned. The record's ID,
	// User and Node must be set; Epoch, State, Created and Changed are set by
	// the store and returned. ErrExists when the id is taken by another request.
	Create(ctx context.Context, request string, r Record, ttl time.Duration) (Record, error)

	// Get returns the record. For a session that is over it returns the record
	// and ErrEnded.
	Get(ctx context.Context, id string) (Record, error)

	// Reassign gives the session at the epoch to another node: the epoch rises
	// by one, the state becomes Assigned, the stream stays as it was. ErrMoved
	// when the epoch has passed already (another request was faster), with the
	// record as it stands.
	Reassign(ctx context.Context, request, id string, epoch uint64, node string, ttl time.Duration) (Record, error)

	// Attach notes that the owner serves the session over a connection, with
	// the stream. It returns the record as it was before (whose Stream tells
	// the owner whether there was another), and ErrMoved when the lease is not
	// the owner's.
	Attach(ctx context.Context, l Lease, stream string, ttl time.Duration) (Record, error)

	// Renew keeps alive the sessions a node serves, and restores those that a
	// store which lost its data no longer knows. Of each record, ID, User, Node,
	// Epoch, State, Stream, Pool, Region, Group, Ext and Created must be set. The
	// result has one error for each, nil or one of the above: ErrEnded and ErrMoved tell
	// the node that it must let go of the session. The ttl of each record is
	// set to that of its place in ttls.
	Renew(ctx context.Context, records []Record, ttls []time.Duration) []error

	// Park lays down what a node knows of the stream it served, for whoever owns
	// the session next, and marks the session as detached; ttl is for both. The
	// node is done with the session when it calls this, whatever comes of it.
	// ErrMoved when the lease is not the owner's, or the stream not the record's.
	Park(ctx context.Context, l Lease, stream string, state []byte, ttl time.Duration) error

	// Unpark returns what was parked of the stream, to one owner alone: again to
	// the same lease, and nil to everybody else and when there is nothing.
	// ErrMoved when the lease is not the owner's, or the stream not the record's.
	Unpark(ctx context.Context, l Lease, stream string) (state []byte, err error)

	// End ends the session whatever its epoch and keeps a tombstone for ttl,
	// which must outlive every token of the session. Ending an ended session
	// returns its record, with the first reason, and no error.
	End(ctx context.Context, id string, reason Reason, ttl time.Duration) (Record, error)

	// Sessions returns the user's sessions that are not over, oldest first, at
	// most limit.
	Sessions(ctx context.Context, user string, limit int) ([]Record, error)

	// Group binds a group to a node and returns the node it is bound to: want
	// if the group was free or bound to replace, or else the node it was bound
	// to before, for which ttl starts anew.
	Group(ctx context.Context, group, want, replace string, ttl time.Duration) (node string, err error)

	// Ping reports whether the store can take a transition now.
	Ping(ctx context.Context) error

	// Close lets go of the store's resources.
	Close() error
}

// Reason is why a session ended.
type Reason = proto.CloseCode
