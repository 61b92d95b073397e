package session

import (
	"context"
	"time"
)

// Groups is the part of a Store that keeps the sessions of a group on one node. See
// Store for what all methods have in common.
type Groups interface {
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
