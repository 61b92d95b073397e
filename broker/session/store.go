package session

import (
	"context"
	"errors"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Errors of a Store. Callers distinguish them with errors.Is.
var (
	// ErrNotFound: the session does not exist. It was never created, or its
	// record has expired.
	ErrNotFound = errors.New("session: not found")
	// ErrEnded: the session has ended. The record that is returned with the
	// error has the reason.
	ErrEnded = errors.New("session: ended")
	// ErrMoved: the session belongs to another node, or has a later epoch. The
	// record that is returned with the error has both.
	ErrMoved = errors.New("session: moved")
	// ErrExists: another request has created a session with this id.
	ErrExists = errors.New("session: exists")
	// ErrConnected: the user already has as many sessions as the rule of the new
	// session allows, and they are in use.
	ErrConnected = errors.New("session: user is connected")
	// ErrReplayed: the number of the proof is not higher than that of an earlier
	// proof for the session.
	ErrReplayed = errors.New("session: proof used before")
	// ErrUnavailable: the store did not answer in time, or its answer made no
	// sense. The caller does not know whether the transition was made. Repeating
	// it with the same request id is safe.
	ErrUnavailable = errors.New("session: store unavailable")
)

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

// Store keeps the session records. Every method is one atomic step and safe for
// concurrent use. A method returns an error that wraps ErrUnavailable if the
// store cannot be reached, and also if ctx is cancelled or past its deadline.
//
// Request ids make transitions idempotent. If a transition is repeated with the
// same id, it succeeds and returns the current record, until another transition
// with an id has changed the record. Use a new id (NewRequest) for each new
// purpose. A transition with an empty id never counts as a repetition.
//
// A record is kept for the ttl of its last transition. Then the store deletes it.
type Store interface {
	// Create adds a record with epoch 1 and state Assigned, and applies the rule
	// in the same step: it ends the sessions of the user that exceed the rule,
	// oldest first, and returns them, or it refuses with ErrConnected. A repeated
	// call returns the ended sessions again. The caller must set ID, User and Node
	// of the record. The store sets Epoch, State, Created and Changed, and returns
	// them. The error is ErrExists if another request has created a record with
	// this id.
	Create(ctx context.Context, request string, r Record, rule Rule, ttl time.Duration) (made Record, ended []Record, err error)

	// Get returns the record. If the session has ended it returns the record and
	// ErrEnded.
	Get(ctx context.Context, id string) (Record, error)

	// Reassign makes another node the owner of the session, without asking the
	// previous owner: the epoch rises by one, the state becomes Assigned, the
	// stream stays the same. seen is the record on which the caller decided. The
	// error is ErrMoved, with the current record, if the epoch of seen is no longer
	// the current one, because another request was faster. It is also ErrMoved if
	// the session was attached after seen was read: at that time the owner had no
	// state to hand over, and since then it may have taken the stored state. If
	// seen has no State, only its ID and Epoch are used.
	Reassign(ctx context.Context, request string, seen Record, node string, ttl time.Duration) (Record, error)

	// Move makes another node, to, the owner of the session, as Reassign does. The
	// current owner calls it, and in the same step persists the state of the stream
	// for the next owner. From the call until its outcome is known the caller must
	// not serve the session, nor afterwards if the session has moved.
	Move(ctx context.Context, request string, s Saved, to string) (Record, error)

	// Attach records that the owner serves the session over a connection, with the
	// stream. It returns the record as it was before; its Stream shows the owner
	// whether there was another stream. The error is ErrMoved if the lease is not
	// the owner's. If take is set, the stored state belongs to this lease from now
	// on, because the owner continues from it: Restore returns it to no later
	// lease. proof is recorded in the same step, as Prove does; 0 means no proof.
	Attach(ctx context.Context, l Lease, stream string, take bool, proof uint64, ttl time.Duration) (Record, error)

	// Prove records the number of a proof of possession for the session. Each
	// number can be used once: the error is ErrReplayed unless it is higher than
	// all earlier ones. The error is ErrEnded if the session has ended.
	Prove(ctx context.Context, id string, proof uint64) error

	// Renew extends the leases of the sessions that a node serves, and restores the
	// records that a store has lost. Of each record, ID, User, Node, Epoch, State,
	// Stream, Leaving, Pool, Region, Fallback, Strict, Group, Ext and Created must be
	// set. The result
	// has one error for each record: nil, or one of the errors above. ErrEnded and
	// ErrMoved mean that the node must stop serving the session. ttls has the new
	// ttl of each record, in the same order.
	Renew(ctx context.Context, records []Record, ttls []time.Duration) []error

	// Save persists what a node knows of sessions that it serves, each for its next
	// owner: in case the node dies, or, with Leave, because the node is done with
	// the session. It replaces what was saved before, unless that was saved under
	// the same epoch with an equal or higher Seq: then the call was delayed on its
	// way, and changes nothing. The result has one error for each session: nil,
	// ErrMoved if the lease is not the owner's, or one of the errors above.
	Save(ctx context.Context, list []Saved) []error

	// Restore returns the record and the stored state of the session to its owner.
	// The stored state is empty if there is none, or if another lease has taken it
	// (see Attach). If the session has ended it returns the record and ErrEnded. If
	// the lease is not the owner's it returns the record and ErrMoved.
	Restore(ctx context.Context, l Lease) (Record, StoredState, error)

	// End ends the session and keeps its record, as a tombstone, for ttl, which
	// must be longer than any token of the session is valid. A node passes the
	// epoch under which it holds the session, and gets ErrMoved if that is not the
	// current one; epoch 0 ends the session at any epoch. closeReason replaces the
	// text that belongs to the code of reason; "" keeps it. If the session has
	// already ended, End returns its record, with the first reason, and no error.
	End(ctx context.Context, id string, epoch uint64, reason Reason, closeReason string, ttl time.Duration) (Record, error)

	// EndUser ends all sessions of the user, as End does, and returns those that
	// had not ended before.
	EndUser(ctx context.Context, user string, reason Reason, closeReason string, ttl time.Duration) ([]Record, error)

	// Sessions returns the sessions of the user that have not ended, oldest first,
	// at most limit.
	Sessions(ctx context.Context, user string, limit int) ([]Record, error)

	// Group binds a group to a node. It binds the group to node if the group is
	// free or bound to replace; otherwise the group stays where it is. In all cases
	// the ttl of the group starts again. If sid is not empty, the session becomes a
	// member of the group, until it ends or until Group has not been called for ttl.
	// When its last member leaves, the group is free.
	Group(ctx context.Context, group, sid, node, replace string, ttl time.Duration) (Bound, error)

	// Ungroup removes the session from the members of the group. End and EndUser
	// do this for the sessions that they end.
	Ungroup(ctx context.Context, group, sid string) error

	// Grouped returns the node that the group is bound to, or "" if it is free.
	Grouped(ctx context.Context, group string) (node string, err error)

	// Wait adds the entry to the end of the queue, or keeps the position that it
	// has, for ttl. It removes entries whose ttl has passed. If entry is "", Wait
	// only reads the queue. by names the broker that calls.
	Wait(ctx context.Context, queue, entry, by string, ttl time.Duration) (QueueStatus, error)

	// Admit removes the entry from the queue. sid is the session that the entry was
	// given: for ttl, Wait returns it to a caller that asks for the entry again. sid
	// is "" if the entry was given up. by names the broker that calls.
	Admit(ctx context.Context, queue, entry, sid, by string, ttl time.Duration) error

	// Fence makes the node check, within about a second, which of its sessions it
	// still owns: some were ended or reassigned, and the broker could not notify
	// the node. It reaches nodes that can reach the store but not the brokers.
	Fence(ctx context.Context, node string) error

	// Fenced returns a text that changes with each Fence of the node.
	Fenced(ctx context.Context, node string) (string, error)

	// Ping returns nil if the store can make a transition now.
	Ping(ctx context.Context) error

	// Close releases the resources of the store.
	Close() error
}

// Reason is why a session ended.
type Reason = proto.CloseCode

// Rule limits how many sessions one user may have in the pool of a new session.
// The zero Rule sets no limit.
type Rule struct {
	// Sessions is the highest number, including the new session; 0 for no limit.
	Sessions int
	// Refuse makes Create refuse the new session if the other sessions up to the
	// limit are attached, or assigned and not attached yet. Without it, the oldest
	// sessions end. A detached session always gives way to the new one: it most
	// likely belongs to the same person, who logs in again.
	Refuse bool
	// Reason, CloseReason and TTL apply to the sessions that end, as in End.
	Reason      Reason
	CloseReason string
	TTL         time.Duration
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
	Seq    uint64 // the last Seq if it was saved under the caller's epoch, else 0; the caller counts on from it
}

// Bound says which node a group is bound to, and what other members it has.
type Bound struct {
	Node string
	// Others are the oldest other members of the group, at most GroupOthers. Some
	// may have expired without having ended.
	Others []string
	// Young says that another session joined within GroupYoung. Its record may
	// not exist yet.
	Young bool
}

// Limits of Bound.
const (
	GroupOthers = 8
	GroupYoung  = 10 * time.Second
)

// QueueStatus describes a queue, and the position of one entry in it.
type QueueStatus struct {
	Ahead   int     // entries before this one
	Waiting int     // entries in the queue, including this one
	Rate    float64 // entries admitted a second, averaged over QueueRate; 0 if none were
	Recent  int     // entries that other brokers admitted within QueueRecent
	Session string  // the session that the entry was given; then it is no longer in the queue
	GivenUp int     // entries that this call removed because their ttl had passed
}

// QueueRate is the time constant of QueueStatus.Rate, an exponential average.
const QueueRate = 30 * time.Second

// QueueRecent is how long a new session may be missing from the load that its
// node reports.
const QueueRecent = 1500 * time.Millisecond
