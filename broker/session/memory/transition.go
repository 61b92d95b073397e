package memory

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, request string, r session.Record, ttl time.Duration) (session.Record, error) {
	if err := session.CheckNew(r); err != nil {
		return session.Record{}, err
	}
	if err := s.lock(ctx); err != nil {
		return session.Record{}, err
	}
	defer s.mu.Unlock()
	now := s.now()
	if e, _ := s.find(r.ID, now); e != nil {
		if e.request != request || request == "" {
			return session.Record{}, session.ErrExists
		}
		return e.Record, nil
	}
	r.Epoch, r.State, r.Reason, r.Created, r.Changed = 1, session.Assigned, 0, now, now
	s.add(&entry{Record: r, request: request, expires: now.Add(ttl)}, now)
	return r, nil
}

// Reassign implements session.Store.
func (s *Store) Reassign(ctx context.Context, request, id string, epoch uint64, node string, ttl time.Duration) (session.Record, error) {
	if node == "" || epoch == math.MaxUint64 {
		return session.Record{}, fmt.Errorf("%w: reassignment to no node, or beyond the last epoch", session.ErrInvalid)
	}
	if err := s.lock(ctx); err != nil {
		return session.Record{}, err
	}
	defer s.mu.Unlock()
	now := s.now()
	e, err := s.find(id, now)
	switch {
	case e == nil:
		return session.Record{}, err
	case err != nil:
		return e.Record, err
	case request != "" && e.request == request:
		return e.Record, nil
	case e.Epoch != epoch:
		return e.Record, session.ErrMoved
	}
	e.Epoch++
	e.Node, e.State, e.Changed = node, session.Assigned, now
	e.request, e.expires = request, now.Add(ttl)
	return e.Record, nil
}

// Attach implements session.Store.
func (s *Store) Attach(ctx context.Context, l session.Lease, stream string, ttl time.Duration) (session.Record, error) {
	if err := s.lock(ctx); err != nil {
		return session.Record{}, err
	}
	defer s.mu.Unlock()
	now := s.now()
	e, err := s.find(l.ID, now)
	switch {
	case e == nil:
		return session.Record{}, err
	case err != nil:
		return e.Record, err
	case e.Node != l.Node || e.Epoch != l.Epoch:
		return e.Record, session.ErrMoved
	}
	before := e.Record
	e.State, e.Stream, e.Changed, e.expires = session.Attached, stream, now, now.Add(ttl)
	return before, nil
}

// Renew implements session.Store.
func (s *Store) Renew(ctx context.Context, records []session.Record, ttls []time.Duration) []error {
	errs := make([]error, len(records))
	if err := s.lock(ctx); err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	defer s.mu.Unlock()
	now := s.now()
	for i, r := range records {
		errs[i] = s.renew(r, ttls[i], now)
	}
	return errs
}

// renew renews one record. s.mu is held.
func (s *Store) renew(r session.Record, ttl time.Duration, now time.Time) error {
	if !session.Renewable(r) {
		return session.ErrNotFound
	}
	e, err := s.find(r.ID, now)
	switch {
	case e == nil:
		r.Changed, r.Reason = now, 0
		s.add(&entry{Record: r, expires: now.Add(ttl)}, now)
		return nil
	case err != nil:
		return err
	case e.Node != r.Node || e.Epoch != r.Epoch:
		return session.ErrMoved
	}
	if e.State != r.State {
		e.Changed = now
	}
	e.State, e.Stream, e.expires = r.State, r.Stream, now.Add(ttl)
	return nil
}

// End implements session.Store.
func (s *Store) End(ctx context.Context, id string, reason session.Reason, ttl time.Duration) (session.Record, error) {
	if err := s.lock(ctx); err != nil {
		return session.Record{}, err
	}
	defer s.mu.Unlock()
	now := s.now()
	e, err := s.find(id, now)
	switch {
	case e == nil:
		return session.Record{}, err
	case err != nil: // over already; the first reason stands
		return e.Record, nil
	}
	e.State, e.Reason, e.Changed, e.expires = session.Ended, reason, now, now.Add(ttl)
	e.parked = nil
	return e.Record, nil
}
