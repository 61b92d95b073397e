package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// Group implements session.Store.
func (s *Store) Group(ctx context.Context, group, sid, node, replace string, ttl time.Duration) (session.Bound, error) {
	if node == "" {
		return session.Bound{}, fmt.Errorf("%w: the node to bind group %q to must not be empty", session.ErrInvalid, group)
	}
	var b session.Bound
	err := s.do(ctx, "group", func(ctx context.Context) error {
		args := []any{sid, node, replace, milliseconds(ttl), session.GroupOthers, session.GroupYoung.Milliseconds()}
		reply, err := s.run(ctx, groupScript, groupKeys(group), args).Slice()
		if err != nil {
			return err
		}
		b, err = bound(reply)
		return err
	})
	return b, err
}

// bound reads the reply of group.lua.
func bound(reply []any) (b session.Bound, err error) {
	if len(reply) < 2 {
		return b, fmt.Errorf("%w: a group of %d elements, want 2 or more", errCorrupt, len(reply))
	}
	b.Node, _ = reply[0].(string)
	young, _ := reply[1].(int64)
	b.Young = young != 0
	for _, item := range reply[2:] {
		sid, _ := item.(string)
		b.Others = append(b.Others, sid)
	}
	if b.Node == "" {
		return b, fmt.Errorf("%w: a group without a node", errCorrupt)
	}
	return b, nil
}

// Ungroup implements session.Store.
func (s *Store) Ungroup(ctx context.Context, group, sid string) error {
	return s.do(ctx, "ungroup", func(ctx context.Context) error {
		return s.run(ctx, ungroupScript, groupKeys(group), []any{sid}).Err()
	})
}

// release removes the ended sessions from their groups. It is a step of its own,
// because a group may be in another slot than its sessions. If it fails, the next
// caller of Group still gets the session as a member, and must check whether it has
// ended.
func (s *Store) release(ctx context.Context, ended ...session.Record) {
	for _, r := range ended {
		if key := r.GroupKey(); key != "" && r.State == session.Ended {
			_ = s.Ungroup(ctx, key, r.ID)
		}
	}
}

// Grouped implements session.Store.
func (s *Store) Grouped(ctx context.Context, group string) (node string, err error) {
	return s.text(ctx, "grouped", groupKeys(group)[0])
}
