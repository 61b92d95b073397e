// Package session defines the record of a session and the store that keeps
// it: the only truth that all members of a cluster share.
package session

import (
	"encoding/json"
	"time"

	"github.com/usher-broker/usher/proto"
)

// State is where a session stands.
type State string

// The states of a session.
const (
	Assigned State = "assigned" // sent to a node, not seen there yet
	Attached State = "attached" // has a connection at its node
	Detached State = "detached" // had one; kept until the resume window closes
	Ended    State = "ended"    // over; kept a while so that its tokens are refused with the reason
)

// Record is what the cluster knows of one session.
type Record struct {
	ID     string
	User   string
	Node   string // the owner: the only node that may serve the session
	Epoch  uint64 // rises with every change of owner, from 1
	State  State
	Stream string // the stream the owner serves; empty before the first attach
	Pool   string
	Region string
	// Fallback and Strict say which regions serve when Region has no room.
	Fallback    []string
	Strict      bool
	Group       string
	Ext         json.RawMessage
	Created     time.Time
	Changed     time.Time       // of the last transition
	Leaving     bool            // its node has asked the client to go elsewhere
	Reason      proto.CloseCode // why it ended; 0 unless State is Ended
	CloseReason string          // the same in one word, if it is not the code's
}

// GroupKey names the group of the record in the store, or is "". Pools are strict,
// so that a group has a node in each. No name holds a newline.
func (r Record) GroupKey() string {
	if r.Group == "" {
		return ""
	}
	return r.Pool + "\n" + r.Group
}
