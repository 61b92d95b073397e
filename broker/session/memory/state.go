package memory

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// storedState is what a node has persisted of a session. It is deleted together
// with the record.
type storedState struct {
	stream  string
	state   []byte
	by      session.Lease // under which it was saved
	seq     uint64
	takenBy session.Lease // the lease that has taken it with Attach; zero if none has
}

// Save implements session.Store.
func (s *Store) Save(ctx context.Context, list []session.Saved) []error {
	errs := make([]error, len(list))
	if err := s.lock(ctx); err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	defer s.mu.Unlock()
	now := s.now()
	for i, saved := range list {
		errs[i] = s.save(saved, now)
	}
	return errs
}

// save saves the state of one session. s.mu is held.
func (s *Store) save(saved session.Saved, now time.Time) error {
	e, err := s.owned(saved.Lease, now)
	if err != nil {
		return err
	}
	if old := e.state; old != nil && old.by == saved.Lease && old.seq >= saved.Seq {
		return nil // saved was delayed on its way
	}
	e.setState(saved)
	e.Stream, e.expires = saved.Stream, now.Add(saved.TTL)
	if saved.Leave {
		e.State, e.Changed = session.Detached, now
	}
	return nil
}

func (e *entry) setState(saved session.Saved) {
	e.state = &storedState{stream: saved.Stream, state: bytes.Clone(saved.State), by: saved.Lease, seq: saved.Seq}
}

// Move implements session.Store.
func (s *Store) Move(ctx context.Context, request string, saved session.Saved, to string) (session.Record, error) {
	if to == "" || saved.Epoch == math.MaxUint64 {
		return session.Record{}, fmt.Errorf("%w: move to node %q at epoch %d: the node must not be empty, and the epoch must be below %d",
			session.ErrInvalid, to, saved.Epoch, uint64(math.MaxUint64))
	}
	if err := s.lock(ctx); err != nil {
		return session.Record{}, err
	}
	defer s.mu.Unlock()
	now := s.now()
	e, err := s.find(saved.ID, now)
	switch {
	case e == nil:
		return session.Record{}, err
	case err != nil:
		return e.Record, err
	case request != "" && e.request == request:
		return e.Record, nil
	case e.Node != saved.Node || e.Epoch != saved.Epoch:
		return e.Record, session.ErrMoved
	}
	e.setState(saved)
	e.Epoch++
	e.Stream = saved.Stream
	e.assign(request, to, now, saved.TTL)
	return e.Record, nil
}

// Restore implements session.Store.
func (s *Store) Restore(ctx context.Context, l session.Lease) (session.Record, session.StoredState, error) {
	if err := s.lock(ctx); err != nil {
		return session.Record{}, session.StoredState{}, err
	}
	defer s.mu.Unlock()
	e, err := s.owned(l, s.now())
	if e == nil {
		return session.Record{}, session.StoredState{}, err
	}
	stored := e.state
	if err != nil || stored == nil || stored.takenBy != (session.Lease{}) && stored.takenBy != l {
		return e.Record, session.StoredState{}, err
	}
	found := session.StoredState{Stream: stored.stream, State: bytes.Clone(stored.state)}
	if stored.by == l {
		found.Seq = stored.seq
	}
	return e.Record, found, nil
}

// owned returns the entry of the lease's session, with ErrMoved if the lease is not
// the owner's. s.mu is held.
func (s *Store) owned(l session.Lease, now time.Time) (*entry, error) {
	e, err := s.find(l.ID, now)
	switch {
	case err != nil:
		return e, err
	case e.Node != l.Node || e.Epoch != l.Epoch:
		return e, session.ErrMoved
	}
	return e, nil
}
