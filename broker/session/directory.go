package session

import (
	"context"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Directory is the part of a Store with which a broker opens, reassigns and ends
// sessions. See Store for what all methods have in common.
type Directory interface {
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

	// Sessions returns the sessions of the user that have not ended, oldest first,
	// at most limit.
	Sessions(ctx context.Context, user string, limit int) ([]Record, error)

	// Prove records the number of a proof of possession for the session. Each
	// number can be used once: the error is ErrReplayed unless it is higher than
	// all earlier ones. The error is ErrEnded if the session has ended.
	Prove(ctx context.Context, id string, proof uint64) error

	// Reassign makes another node the owner of the session, without asking the
	// previous owner: the epoch rises by one, the state becomes Assigned, the
	// stream stays the same. seen is the record on which the caller decided. The
	// error is ErrMoved, with the current record, if the epoch of seen is no longer
	// the current one, because another request was faster. It is also ErrMoved if
	// the session was attached after seen was read: at that time the owner had no
	// state to hand over, and since then it may have taken the stored state. If
	// seen has no State, only its ID and Epoch are used.
	Reassign(ctx context.Context, request string, seen Record, node string, ttl time.Duration) (Record, error)

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

	// Fence makes the node check, within about a second, which of its sessions it
	// still owns: some were ended or reassigned, and the broker could not notify
	// the node. It reaches nodes that can reach the store but not the brokers.
	Fence(ctx context.Context, node string) error
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
