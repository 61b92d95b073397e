// Package memory keeps session records in this process: for one process that
// is the whole cluster, and for tests. What it holds ends with the process.
package memory

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// Store is a session.Store in memory. It does not bound the number of records:
// each login makes one, and the caller bounds logins.
type Store struct {
	now func() time.Time

	mu      sync.Mutex
	entries map[string]*entry // by session id
	users   map[string]*entry // by user: the newest session, and by its links the older ones
	groups  map[string]*group
	lines   map[string]*line
	fences  map[string]int // by node
	closed  bool
}

type entry struct {
	session.Record
	request  string    // of the last transition that had one
	replaced *[]string // the sessions that its creation ended, if there were any
	expires  time.Time
	parked   *parked // or nil
	proof    uint64  // number of the last one
	older    *entry  // the user's session before this one
	newer    *entry  // and after it
}

var _ session.Store = (*Store)(nil)

// New returns an empty store. Records expire by the clock now.
func New(now func() time.Time) *Store {
	return &Store{
		now:     now,
		entries: make(map[string]*entry),
		users:   make(map[string]*entry),
		groups:  make(map[string]*group),
		lines:   make(map[string]*line),
		fences:  make(map[string]int),
	}
}

// Get implements session.Store.
func (s *Store) Get(ctx context.Context, id string) (session.Record, error) {
	if err := s.lock(ctx); err != nil {
		return session.Record{}, err
	}
	defer s.mu.Unlock()
	e, err := s.find(id, s.now())
	if e == nil {
		return session.Record{}, err
	}
	return e.Record, err
}

// Sessions implements session.Store.
func (s *Store) Sessions(ctx context.Context, user string, limit int) ([]session.Record, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	now := s.now()
	var list []session.Record
	for e := s.users[user]; e != nil; e = e.older {
		if e.State != session.Ended && now.Before(e.expires) {
			list = append(list, e.Record)
		}
	}
	// The list runs from the newest back, but for sessions that were restored.
	slices.Reverse(list)
	slices.SortStableFunc(list, func(a, b session.Record) int { return a.Created.Compare(b.Created) })
	return list[:min(len(list), max(limit, 0))], nil
}

// Ping implements session.Store.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	s.mu.Unlock()
	return nil
}

// Close implements session.Store. A closed store is unavailable.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.entries, s.users, s.groups, s.lines, s.fences = true, nil, nil, nil, nil, nil
	return nil
}

// lock locks the store, unless it is closed or the caller has given up.
func (s *Store) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", session.ErrUnavailable, err)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return fmt.Errorf("%w: closed", session.ErrUnavailable)
	}
	return nil
}

// find returns the entry that is alive, with ErrEnded if its session is over,
// or no entry and ErrNotFound. s.mu is held.
func (s *Store) find(id string, now time.Time) (*entry, error) {
	e := s.entries[id]
	switch {
	case e == nil || !now.Before(e.expires):
		return nil, session.ErrNotFound
	case e.State == session.Ended:
		return e, session.ErrEnded
	}
	return e, nil
}
