package session

import (
	"context"
	"errors"
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
	// ErrLayout: another version has written the data, and this one cannot use it. The
	// text says what to do. Until then the store refuses all calls. An error that wraps
	// ErrLayout wraps ErrUnavailable too.
	ErrLayout = errors.New("session: data of another version")
)

// Store keeps the session records, and what else the members of a cluster share. It
// has a part for each kind of caller, and callers take the parts that they need.
//
// Every method is one atomic step and safe for concurrent use; a method that takes a
// list makes one such step for each element. A method returns an error that wraps
// ErrUnavailable if the store cannot be reached, and also if ctx is cancelled or past
// its deadline.
//
// Request ids make transitions idempotent. If a transition is repeated with the
// same id, it succeeds and returns the current record, until another transition
// with an id has changed the record. Use a new id (NewRequest) for each new
// purpose. A transition with an empty id never counts as a repetition.
//
// A record is kept for the ttl of its last transition. Then the store deletes it.
type Store interface {
	Directory
	Groups
	Queues
	Leases

	// Close releases the resources of the store.
	Close() error
}

// Pinger is a store that can be asked whether it works.
type Pinger interface {
	// Ping returns nil if the store can make a transition now.
	Ping(ctx context.Context) error
}
