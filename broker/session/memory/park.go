package memory

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// parked is what a node has laid down of a session. It is forgotten with its
// record.
type parked struct {
	stream string
	state  []byte
	epoch  uint64 // under which it was saved
	seq    uint64
	taker  session.Lease // who has it now; zero for nobody
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

// save saves one. s.mu is held.
func (s *Store) save(saved session.Saved, now time.Time) error {
	e, err := s.owned(saved.Lease, now)
	if err != nil {
		return err
	}
	if p := e.parked; p != nil && p.epoch == saved.Epoch && p.seq >= saved.Seq {
		return nil // held up on its way
	}
	e.park(saved)
	e.Stream, e.expires = saved.Stream, now.Add(saved.TTL)
	if saved.Leave {
		e.State, e.Changed = session.Detached, now
	}
	return nil
}

func (e *entry) park(saved session.Saved) {
	e.parked = &parked{stream: saved.Stream, state: bytes.Clone(saved.State), epoch: saved.Epoch, seq: saved.Seq}
}

// Move implements session.Store.
func (s *Store) Move(ctx context.Context, request string, saved session.Saved, to string) (session.Record, error) {
	if to == "" || saved.Epoch == math.MaxUint64 {
		return session.Record{}, fmt.Errorf("%w: a move to no node, or beyond the last epoch", session.ErrInvalid)
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
	e.park(saved)
	e.Epoch++
	e.Stream = saved.Stream
	e.give(request, to, now, saved.TTL)
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
	p := e.parked
	if err != nil || p == nil || p.taker != (session.Lease{}) && p.taker != l {
		return e.Record, session.StoredState{}, err
	}
	found := session.StoredState{Stream: p.stream, State: bytes.Clone(p.state)}
	if p.epoch == l.Epoch {
		found.Seq = p.seq
	}
	return e.Record, found, nil
}

// owned returns the entry of a session, with ErrMoved if the lease is not its
// owner's. s.mu is held.
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
