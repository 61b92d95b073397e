package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

type group struct {
	node     string
	expires  time.Time
	sessions []member // oldest first
}

type member struct {
	sid  string
	when time.Time
}

func (g *group) index(sid string) int {
	return slices.IndexFunc(g.sessions, func(m member) bool { return m.sid == sid })
}

// Group implements session.Store.
func (s *Store) Group(ctx context.Context, name, sid, want, replace string, ttl time.Duration) (session.Bound, error) {
	if want == "" {
		return session.Bound{}, fmt.Errorf("%w: a group cannot be bound to no node", session.ErrInvalid)
	}
	if err := s.lock(ctx); err != nil {
		return session.Bound{}, err
	}
	defer s.mu.Unlock()
	now := s.now()
	g := s.groups[name]
	if g == nil || !now.Before(g.expires) {
		g = &group{node: want}
		s.groups[name] = g
	}
	if replace != "" && g.node == replace {
		g.node = want
	}
	g.expires = now.Add(ttl)
	b := session.Bound{Node: g.node}
	for _, m := range g.sessions {
		if m.sid == sid {
			continue
		}
		b.Young = b.Young || now.Sub(m.when) < session.GroupYoung
		if len(b.Others) < session.GroupOthers {
			b.Others = append(b.Others, m.sid)
		}
	}
	if sid != "" && g.index(sid) < 0 {
		g.sessions = append(g.sessions, member{sid, now})
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

// ungroup frees the group when it was the last session of it. s.mu is held.
func (s *Store) ungroup(name, sid string) {
	g := s.groups[name]
	if g == nil {
		return
	}
	i := g.index(sid)
	if i < 0 {
		return
	}
	if g.sessions = slices.Delete(g.sessions, i, i+1); len(g.sessions) == 0 {
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
