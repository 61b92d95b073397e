package broker

import (
	"context"
	"fmt"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Explanation says where a login would go now, and why.
type Explanation struct {
	// Node is where the session would go; "" if nowhere, or if chance decides.
	Node string
	// Group is the node that the group is bound to, which goes before what the
	// policy says as long as it takes sessions; "" without one.
	Group string
	// Sessions are those that the user has already. A client with a token stays
	// with its session.
	Sessions []session.Record
	Nodes    []placement.Verdict
}

// Explain says where a login with the request would go now. It changes nothing.
// unreachable is as in Reassign. The errors are those of Assign.
func (b *Broker) Explain(ctx context.Context, req proto.AssignmentRequest, unreachable string) (Explanation, error) {
	r, err := newRecord(req)
	if err != nil {
		return Explanation{}, err
	}
	var e Explanation
	if e.Sessions, err = b.store.Sessions(ctx, r.User, explainSessions); err != nil {
		return Explanation{}, fmt.Errorf("finding the user's sessions: %w", err)
	}
	if key := r.GroupKey(); key != "" {
		if e.Group, err = b.store.Grouped(ctx, key); err != nil {
			return Explanation{}, fmt.Errorf("finding the node of the group: %w", err)
		}
	}
	b.mu.Lock()
	e.Nodes = b.table.Explain(b.cfg.Now(), hints(r, unreachable))
	b.mu.Unlock()
	for _, v := range e.Nodes {
		if v.Chosen {
			e.Node = v.Peer.ID
		}
	}
	if _, takes := b.takes(e.Group); takes && e.Group != unreachable {
		e.Node = e.Group
	}
	return e, nil
}

// explainSessions is how many of a user's sessions are told of.
const explainSessions = 10
