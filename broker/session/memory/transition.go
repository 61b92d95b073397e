package memory

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, request string, r session.Record, rule session.Rule, ttl time.Duration) (session.Record, []session.Record, error) {
	if err := session.CheckNew(r); err != nil {
		return session.Record{}, nil, err
	}
	if err := s.lock(ctx); err != nil {
		return session.Record{}, nil, err
	}
	defer s.mu.Unlock()
	now := s.now()
	if e, _ := s.find(r.ID, now); e != nil {
		if e.request != request || request == "" {
			return session.Record{}, nil, session.ErrExists
		}
		return e.Record, s.records(e.replaced, now), nil
	}
	over, err := s.displaced(r, rule, now)
	if err != nil {
		return session.Record{}, nil, err
	}
	e := &entry{request: request, expires: now.Add(ttl)}
	var ended []session.Record
	if len(over) > 0 {
		e.replaced = new([]string)
	}
	for _, old := range over {
		s.end(old, rule.Reason, rule.CloseReason, now, rule.TTL)
		*e.replaced = append(*e.replaced, old.ID)
		ended = append(ended, old.Record)
	}
	r.Epoch, r.State, r.Reason, r.Created, r.Changed = 1, session.Assigned, 0, now, now
	r.CloseReason, r.Leaving = "", false
	e.Record = r
	s.add(e, now)
	return r, ended, nil
}

// records returns the records of the ids that are known. s.mu is held.
func (s *Store) records(ids *[]string, now time.Time) []session.Record {
	if ids == nil {
		return nil
	}
	var list []session.Record
	for _, id := range *ids {
		if e, _ := s.find(id, now); e != nil {
			list = append(list, e.Record)
		}
	}
	return list
}

// displaced returns the sessions of the user that end when the record is
// added. s.mu is held.
func (s *Store) displaced(r session.Record, rule session.Rule, now time.Time) ([]*entry, error) {
	if rule.Sessions <= 0 {
		return nil, nil
	}
	var all, may []*entry // those that are there, and those of them that may go
	for e := s.users[r.User]; e != nil; e = e.older {
		if e.Pool != r.Pool || e.State == session.Ended || !now.Before(e.expires) {
			continue
		}
		all = append(all, e)
		if !rule.Refuse || e.State == session.Detached {
			may = append(may, e)
		}
	}
	over := len(all) + 1 - rule.Sessions
	if over > len(may) {
		return nil, session.ErrConnected
	}
	oldest := func(a, b *entry) int { return a.Created.Compare(b.Created) }
	slices.Reverse(may) // so that of the same instant the earlier comes first
	slices.SortStableFunc(may, oldest)
	return may[:max(over, 0)], nil
}

// Reassign implements session.Store.
func (s *Store) Reassign(ctx context.Context, request string, seen session.Record, node string, ttl time.Duration) (session.Record, error) {
	if node == "" || seen.Epoch == math.MaxUint64 {
		return session.Record{}, fmt.Errorf("%w: reassignment to no node, or beyond the last epoch", session.ErrInvalid)
	}
	if err := s.lock(ctx); err != nil {
		return session.Record{}, err
	}
	defer s.mu.Unlock()
	now := s.now()
	e, err := s.find(seen.ID, now)
	switch {
	case e == nil:
		return session.Record{}, err
	case err != nil:
		return e.Record, err
	case request != "" && e.request == request:
		return e.Record, nil
	case e.Epoch != seen.Epoch, e.attachedSince(seen):
		return e.Record, session.ErrMoved
	}
	e.Epoch++
	e.give(request, node, now, ttl)
	return e.Record, nil
}

// attachedSince reports whether the session was attached after the record was
// as it was seen.
func (e *entry) attachedSince(seen session.Record) bool {
	if seen.State == "" || e.State != session.Attached {
		return false
	}
	return seen.State != e.State || seen.Stream != e.Stream || !seen.Changed.Equal(e.Changed)
}

// give makes the entry that of a new owner, at the epoch that it has.
func (e *entry) give(request, node string, now time.Time, ttl time.Duration) {
	e.Node, e.State, e.Leaving, e.Changed = node, session.Assigned, false, now
	e.request, e.expires = request, now.Add(ttl)
}

// Attach implements session.Store.
func (s *Store) Attach(ctx context.Context, l session.Lease, stream string, take bool, proof uint64, ttl time.Duration) (session.Record, error) {
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
	if !e.prove(proof) {
		return e.Record, session.ErrReplayed
	}
	before := e.Record
	e.State, e.Stream, e.Changed, e.expires = session.Attached, stream, now, now.Add(ttl)
	if p := e.parked; take && p != nil && p.taker == (session.Lease{}) {
		p.taker = l
	}
	return before, nil
}

// Prove implements session.Store.
func (s *Store) Prove(ctx context.Context, id string, proof uint64) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	e, err := s.find(id, s.now())
	if err == nil && !e.prove(proof) {
		err = session.ErrReplayed
	}
	return err
}

// prove takes in the number of a proof, 0 for none, and reports whether it is above
// all before.
func (e *entry) prove(proof uint64) bool {
	if proof != 0 && proof <= e.proof {
		return false
	}
	e.proof = max(e.proof, proof)
	return true
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
		r.Changed, r.Reason, r.CloseReason = now, 0, ""
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
	e.State, e.Stream, e.Leaving, e.expires = r.State, r.Stream, r.Leaving, now.Add(ttl)
	return nil
}

// End implements session.Store.
func (s *Store) End(ctx context.Context, id string, epoch uint64, reason session.Reason, word string, ttl time.Duration) (session.Record, error) {
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
	case epoch != 0 && e.Epoch != epoch:
		return e.Record, session.ErrMoved
	}
	s.end(e, reason, word, now, ttl)
	return e.Record, nil
}

// EndUser implements session.Store.
func (s *Store) EndUser(ctx context.Context, user string, reason session.Reason, word string, ttl time.Duration) ([]session.Record, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	now := s.now()
	var ended []session.Record
	for e := s.users[user]; e != nil; e = e.older {
		if e.State != session.Ended && now.Before(e.expires) {
			s.end(e, reason, word, now, ttl)
			ended = append(ended, e.Record)
		}
	}
	slices.Reverse(ended)
	slices.SortStableFunc(ended, func(a, b session.Record) int { return a.Created.Compare(b.Created) })
	return ended, nil
}

// end makes the entry a tombstone. s.mu is held.
func (s *Store) end(e *entry, reason session.Reason, word string, now time.Time, ttl time.Duration) {
	e.State, e.Reason, e.CloseReason, e.Changed, e.expires = session.Ended, reason, word, now, now.Add(ttl)
	e.Leaving, e.parked = false, nil
	s.ungroup(e.GroupKey(), e.ID)
}
