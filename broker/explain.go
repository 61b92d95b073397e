package broker

import (
	"context"
	"fmt"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Explanation says which node a login would be assigned to now, and why.
type Explanation struct {
	// Node is the node that the session would be assigned to. It is "" if no node
	// can take it, or if the policy picks at random.
	Node string
	// Group is the node that the group is bound to, or "". As long as it takes
	// sessions, it has precedence over the policy.
	Group string
	// Sessions are the sessions that the user already has. A client that has a
	// token stays with its session.
	Sessions []session.Record
	Nodes    []placement.Rating
}

// Explain returns which node a login with the request would be assigned to now.
// It changes nothing. unreachable is as in Reassign. The errors are those of
// Assign.
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
	e.Nodes = b.picker.Explain(b.cfg.Now(), hints(r, unreachable))
	b.mu.Unlock()
	for _, v := range e.Nodes {
		if v.Chosen {
			e.Node = v.Peer.ID
		}
	}
	if _, accepts := b.accepting(e.Group); accepts && e.Group != unreachable {
		e.chooseGroup()
	}
	return e, nil
}

// chooseGroup makes the node of the group the chosen one.
func (e *Explanation) chooseGroup() {
	e.Node = e.Group
	for i := range e.Nodes {
		r := &e.Nodes[i]
		switch {
		case r.Peer.ID == e.Group:
			r.Chosen, r.Because = true, "the group is here"
		case r.Candidate:
			r.Chosen, r.Because = false, "the group is on "+e.Group
		}
	}
}

// explainSessions bounds Explanation.Sessions.
const explainSessions = 10
