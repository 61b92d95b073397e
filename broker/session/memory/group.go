package memory

import (
	"context"
	"fmt"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

type group struct {
	node    string
	expires time.Time
}

// Group implements session.Store.
func (s *Store) Group(ctx context.Context, name, want, replace string, ttl time.Duration) (string, error) {
	if want == "" {
		return "", fmt.Errorf("%w: a group cannot be bound to no node", session.ErrInvalid)
	}
	if err := s.lock(ctx); err != nil {
		return "", err
	}
	defer s.mu.Unlock()
	now := s.now()
	g, bound := s.groups[name]
	if !bound || !now.Before(g.expires) || replace != "" && g.node == replace {
		g.node = want
	}
	g.expires = now.Add(ttl)
	s.groups[name] = g
	sweep(s.groups, func(name string, g group) {
		if !now.Before(g.expires) {
			delete(s.groups, name)
		}
	})
	return g.node, nil
}
