package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// group is the node that a group is bound to, and the members of the group.
type group struct {
	node    string
	expires time.Time
	members []member // oldest first
}

type member struct {
	sid    string
	joined time.Time
}

func (g *group) index(sid string) int {
	return slices.IndexFunc(g.members, func(m member) bool { return m.sid == sid })
}

// Group implements session.Store.
func (s *Store) Group(ctx context.Context, name, sid, node, replace string, ttl time.Duration) (session.Bound, error) {
	if node == "" {
		return session.Bound{}, fmt.Errorf("%w: the node to bind group %q to must not be empty", session.ErrInvalid, name)
	}
	if err := s.lock(ctx); err != nil {
		return session.Bound{}, err
	}
	defer s.mu.Unlock()
	now := s.now()
	g := s.groups[name]
	if g == nil || !now.Before(g.expires) {
		g = &group{node: node}
		s.groups[name] = g
	}
	if replace != "" && g.node == replace {
		g.node = node
	}
	g.expires = now.Add(ttl)
	b := session.Bound{Node: g.node}
	for _, m := range g.members {
		if m.sid == sid {
			continue
		}
		b.Young = b.Young || now.Sub(m.joined) < session.GroupYoung
		if len(b.Others) < session.GroupOthers {
			b.Others = append(b.Others, m.sid)
		}
	}
	if sid != "" && g.index(sid) < 0 {
		g.members = append(g.members, member{sid, now})
	}
	sweep(s.groups, func(name string, g *group) {
		if !now.Before(g.expires) {
			delete(s.groups, name)
		}
	})
	return b, nil
}

// Ungroup implements session.Store.
func (s *Store) Ungroup(ctx context.Context, name, sid string) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.ungroup(name, sid)
	return nil
}

// ungroup removes the session from the group, and frees the group if that was its
// last member. s.mu is held.
func (s *Store) ungroup(name, sid string) {
	g := s.groups[name]
	if g == nil {
		return
	}
	i := g.index(sid)
	if i < 0 {
		return
	}
	if g.members = slices.Delete(g.members, i, i+1); len(g.members) == 0 {
		delete(s.groups, name)
	}
}

// Grouped implements session.Store.
func (s *Store) Grouped(ctx context.Context, name string) (string, error) {
	if err := s.lock(ctx); err != nil {
		return "", err
	}
	defer s.mu.Unlock()
	g := s.groups[name]
	if g == nil || !s.now().Before(g.expires) {
		return "", nil
	}
	return g.node, nil
}
