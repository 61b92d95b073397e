// Package memory keeps session records in the memory of this process. It serves a
// cluster of a single process, and tests. The records are lost when the process
// ends.
package memory

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// Store is a session.Store in memory. It does not limit the number of records:
// each login creates one, and the caller limits logins.
type Store struct {
	now func() time.Time

	mu      sync.Mutex
	entries map[string]*entry // by session id
	users   map[string]*entry // by user: the newest session, which links to the older ones
	groups  map[string]*group
	queues  map[string]*queue
	fences  map[string]int // calls of Fence, by node
	closed  bool
}

// entry is a record with what the store needs besides.
type entry struct {
	session.Record
	request  string    // of the last transition that had one
	replaced *[]string // the sessions that Create ended for it, nil if there were none
	expires  time.Time
	state    *storedState // or nil
	proof    uint64       // number of the last proof
	older    *entry       // the user's session before this one
	newer    *entry       // the user's session after this one
}

var _ session.Store = (*Store)(nil)

// New returns an empty store. now is the clock by which records expire.
func New(now func() time.Time) *Store {
	return &Store{
		now:     now,
		entries: make(map[string]*entry),
		users:   make(map[string]*entry),
		groups:  make(map[string]*group),
		queues:  make(map[string]*queue),
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
	// The list runs from the newest to the oldest, except for restored sessions.
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

// Close implements session.Store. The methods of a closed store return
// ErrUnavailable.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.entries, s.users, s.groups, s.queues, s.fences = true, nil, nil, nil, nil, nil
	return nil
}

// lock locks the store. It returns an error, and does not lock, if the store is
// closed or ctx is done.
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

// find returns the entry of the id, with ErrEnded if its session has ended. It
// returns nil and ErrNotFound if there is none or it has expired. s.mu is held.
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
