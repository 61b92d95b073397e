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
	// ErrConnected: the user has as many sessions as the rule of the new one
	// allows, and they are in use.
	ErrConnected = errors.New("session: user is connected")
	// ErrReplayed: the number of the proof is not above that of one before.
	ErrReplayed = errors.New("session: proof used before")
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
	// Instance tells two starts of a node apart: what one has taken and gone on
	// from is of no use to the next. Ownership does not depend on it.
	Instance string
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
	// Create adds a record with epoch 1 and state Assigned, and in the same step
	// sees to the rule: it ends the sessions of the user that there is no room
	// for any more, oldest first, and returns them, also when it is repeated;
	// or it refuses with ErrConnected. The record's ID, User and Node must be
	// set; Epoch, State, Created and Changed are set by the store and returned.
	// ErrExists when the id is taken by another request.
	Create(ctx context.Context, request string, r Record, rule Rule, ttl time.Duration) (made Record, ended []Record, err error)

	// Get returns the record. For a session that is over it returns the record
	// and ErrEnded.
	Get(ctx context.Context, id string) (Record, error)

	// Reassign gives the session that was seen to another node: the epoch rises
	// by one, the state becomes Assigned, the stream stays as it was. ErrMoved
	// when the epoch has passed already (another request was faster), with the
	// record as it stands; also when it was attached after it was seen: its node,
	// which had nothing to give then, may have taken up what was laid down. Of a
	// record seen without a State only ID and Epoch count. Reassign takes the
	// session from a node that was not asked.
	Reassign(ctx context.Context, request string, seen Record, node string, ttl time.Duration) (Record, error)

	// Move is Reassign by the owner itself, which hands over what it knows: state
	// of the stream is laid down for the next owner in the same step. From the
	// moment of the call until its outcome is known the node must not serve the
	// session, and not after that if it moved.
	Move(ctx context.Context, request string, s Saved, to string) (Record, error)

	// Attach notes that the owner serves the session over a connection, with
	// the stream. It returns the record as it was before (whose Stream tells
	// the owner whether there was another), and ErrMoved when the lease is not
	// the owner's. With take, what was laid down for the session is the owner's
	// alone from now on, who goes on from there: Restore no longer returns it to
	// later ones. proof is as in Prove, in the same step; 0 for none.
	Attach(ctx context.Context, l Lease, stream string, take bool, proof uint64, ttl time.Duration) (Record, error)

	// Prove notes the number of a proof of possession for the session, which serves
	// once: ErrReplayed if it is not above all before. For a session that is over
	// it is ErrEnded.
	Prove(ctx context.Context, id string, proof uint64) error

	// Renew keeps alive the sessions a node serves, and restores those that a
	// store which lost its data no longer knows. Of each record, ID, User, Node,
	// Epoch, State, Stream, Leaving, Pool, Region, Group, Ext and Created must be
	// set. The result has one error for each, nil or one of the above: ErrEnded
	// and ErrMoved tell the node that it must let go of the session. The ttl of
	// each record is set to that of its place in ttls.
	Renew(ctx context.Context, records []Record, ttls []time.Duration) []error

	// Save lays down what a node knows of sessions that it serves, each for
	// whoever owns it next: for the case that the node dies, or, with Leave,
	// because it is done with the session. What was saved before is replaced,
	// unless it has a higher Seq of the same lease: a save that was held up on
	// its way does nothing. The result has one error for each, nil, ErrMoved when
	// the lease is not the owner's, or one of the above.
	Save(ctx context.Context, list []Saved) []error

	// Restore returns the record, and what was laid down for the session, to its
	// owner: nothing if there is nothing, or an owner before has taken it. For a
	// session that is over it returns the record and ErrEnded, and ErrMoved when
	// the lease is not the owner's.
	Restore(ctx context.Context, l Lease) (Record, StoredState, error)

	// End ends the session and keeps a tombstone for ttl, which must outlive every
	// token of the session. A node gives the epoch under which it holds the
	// session, and gets ErrMoved if that has passed; epoch 0 ends it whatever its
	// epoch. word is the reason in one word, if it is not the one that goes with
	// the code. Ending an ended session returns its record, with the first reason,
	// and no error.
	End(ctx context.Context, id string, epoch uint64, reason Reason, closeReason string, ttl time.Duration) (Record, error)

	// EndUser ends all sessions of the user as End does, and returns those that
	// were not over.
	EndUser(ctx context.Context, user string, reason Reason, closeReason string, ttl time.Duration) ([]Record, error)

	// Sessions returns the user's sessions that are not over, oldest first, at
	// most limit.
	Sessions(ctx context.Context, user string, limit int) ([]Record, error)

	// Group binds a group to a node: to want if the group was free or bound to
	// replace; otherwise it stays where it is, and ttl starts anew. The session,
	// if one is named, counts as one of the group from now on, until it has ended
	// or ttl has passed without anybody asking. A group without a session that
	// counts is free.
	Group(ctx context.Context, group, sid, want, replace string, ttl time.Duration) (Bound, error)

	// Ungroup has the session count no longer. End and EndUser do the same.
	Ungroup(ctx context.Context, group, sid string) error

	// Grouped returns the node that the group is bound to, or "".
	Grouped(ctx context.Context, group string) (node string, err error)

	// Wait gives a place in a line, at its end, or keeps the one it has, for ttl.
	// Places that were not kept are given up. A place of "" is none: only the line
	// is looked at. by is the broker that asks.
	Wait(ctx context.Context, line, place, by string, ttl time.Duration) (QueueStatus, error)

	// Admit ends the waiting of a place: with the session that it got, which Wait
	// tells for ttl if the place is asked for again, or with "", if it is given up.
	Admit(ctx context.Context, line, place, sid, by string, ttl time.Duration) error

	// Fence has a node look, within about a second, which of the sessions it
	// holds are still its own: some were ended or given to others, and the node
	// could not be told. It is for nodes that reach the store and not the members
	// that place sessions.
	Fence(ctx context.Context, node string) error

	// Fenced returns a text that differs after each Fence of the node.
	Fenced(ctx context.Context, node string) (string, error)

	// Ping reports whether the store can take a transition now.
	Ping(ctx context.Context) error

	// Close lets go of the store's resources.
	Close() error
}

// Reason is why a session ended.
type Reason = proto.CloseCode

// Rule says how many sessions of one user there may be in the pool of a new
// one. The zero Rule allows any number.
type Rule struct {
	// Sessions is the number, with the new one; 0 for any.
	Sessions int
	// Refuse has the new one refused when there are as many that have a
	// connection, or were sent to a node and wait for one. Without it the oldest
	// end. One that has lost its connection always gives way: it is most likely
	// the same person, coming back.
	Refuse bool
	// Reason, CloseReason and TTL are for the sessions that end, as in End.
	Reason      Reason
	CloseReason string
	TTL         time.Duration
}

// Saved is what a node knows of a session that it serves.
type Saved struct {
	Lease
	Stream string        // that the node serves; the record's from now on
	State  []byte        // of no meaning to the store
	Seq    uint64        // rises with every Save and Move of a lease
	Leave  bool          // the node is done with the session, which becomes Detached
	TTL    time.Duration // of the record and of what is saved
}

// StoredState is what was laid down for the next owner of a session.
type StoredState struct {
	Stream string // the stream that State belongs to
	State  []byte // nil if there is nothing
	Seq    uint64 // for the owner, if it saves under the same lease, to go on from
}

// Bound says where a group is, and with whom.
type Bound struct {
	Node string
	// Others are sessions that count as the group's, beside the one asked for: the
	// oldest ones, GroupOthers at most. Some may be gone without having ended.
	Others []string
	// Young says that another joined within GroupYoung: it may be about to be
	// created.
	Young bool
}

// Bounds of Bound.
const (
	GroupOthers = 8
	GroupYoung  = 10 * time.Second
)

// QueueStatus is a place in a line.
type QueueStatus struct {
	Ahead   int     // places before it
	Waiting int     // places in the line, with it
	Rate    float64 // places a second that got a session, of late; 0 if none did
	Recent  int     // places that other brokers have seated within QueueRecent
	Session string  // that the place has got; it is no longer in the line
	GivenUp int     // places of others that were found not to have been kept
}

// QueueRate is the time constant of QueueStatus.Rate, an exponential average.
const QueueRate = 30 * time.Second

// QueueRecent is for how long it may not show in the load of the nodes that a
// session was opened.
const QueueRecent = 1500 * time.Millisecond
