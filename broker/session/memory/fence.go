package memory

import (
	"context"
	"strconv"
)

// Fence implements session.Store.
func (s *Store) Fence(ctx context.Context, node string) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.fences[node]++
	return nil
}

// Fenced implements session.Store.
func (s *Store) Fenced(ctx context.Context, node string) (string, error) {
	if err := s.lock(ctx); err != nil {
		return "", err
	}
	defer s.mu.Unlock()
	return strconv.Itoa(s.fences[node]), nil
}
