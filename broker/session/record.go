// Package session defines the record of a session and the store that keeps the
// records. The store is the only state that all members of a cluster share.
package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/usher-broker/usher/proto"
)

// State is the state of a session.
type State string

// The states of a session.
const (
	Assigned State = "assigned" // assigned to a node, and not attached there yet
	Attached State = "attached" // has a connection at its node
	Detached State = "detached" // has lost its connection; kept until the resume window closes
	Ended    State = "ended"    // kept for a while, so that its tokens are refused with the reason
)

// Record is what the store knows of one session.
type Record struct {
	ID     string
	User   string
	Node   string // the owner: the only node that may serve the session
	Epoch  uint64 // rises by one with every change of owner; the first is 1
	State  State
	Stream string // the stream that the owner serves; empty before the first attach
	Pool   string
	Region string
	// Fallback lists the regions to use when Region has no capacity. Strict says
	// that no others may be used.
	Fallback    []string
	Strict      bool
	Group       string
	Ext         json.RawMessage
	Created     time.Time
	Changed     time.Time       // time of the last transition
	Leaving     bool            // the node has asked the client to attach elsewhere
	Reason      proto.CloseCode // why the session ended; 0 unless State is Ended
	CloseReason string          // the reason as text, if it is not the text of the code
}

// GroupKey returns the name of the record's group in the store, or "" if it has no
// group. The name includes the pool: sessions do not leave their pool, so a group
// is bound to one node in each pool. Pools and groups contain no newline.
func (r Record) GroupKey() string {
	if r.Group == "" {
		return ""
	}
	return r.Pool + "\n" + r.Group
}

// ErrInvalid is wrapped by the errors of calls that no store accepts, whatever
// records it holds.
var ErrInvalid = errors.New("session: invalid")

// CheckNew returns an error that wraps ErrInvalid if the record cannot be created.
func CheckNew(r Record) error {
	switch {
	case r.User == "" || r.Node == "":
		return fmt.Errorf("%w: user %q and node %q of a record must not be empty", ErrInvalid, r.User, r.Node)
	case !ofUser(r.ID, r.User):
		return fmt.Errorf("%w: id %q was not made for user %q; make ids with NewID", ErrInvalid, r.ID, r.User)
	}
	return nil
}

// Renewable reports whether a store that has lost the record can restore it from r.
func Renewable(r Record) bool {
	switch r.State {
	case Assigned, Attached, Detached:
		return ofUser(r.ID, r.User) && r.Node != "" && r.Epoch > 0
	}
	return false
}
