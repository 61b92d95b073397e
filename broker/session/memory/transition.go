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
	excess, err := s.excess(r, rule, now)
	if err != nil {
		return session.Record{}, nil, err
	}
	e := &entry{request: request, expires: now.Add(ttl)}
	var ended []session.Record
	if len(excess) > 0 {
		e.replaced = new([]string)
	}
	for _, old := range excess {
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

// records returns the records of those ids that the store knows. s.mu is held.
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

// excess returns the sessions of the user that must end if the record is added,
// oldest first, or ErrConnected. s.mu is held.
func (s *Store) excess(r session.Record, rule session.Rule, now time.Time) ([]*entry, error) {
	if rule.Sessions <= 0 {
		return nil, nil
	}
	var all, mayEnd []*entry
	for e := s.users[r.User]; e != nil; e = e.older {
		if e.Pool != r.Pool || e.State == session.Ended || !now.Before(e.expires) {
			continue
		}
		all = append(all, e)
		if !rule.Refuse || e.State == session.Detached {
			mayEnd = append(mayEnd, e)
		}
	}
	n := len(all) + 1 - rule.Sessions
	if n > len(mayEnd) {
		return nil, session.ErrConnected
	}
	oldest := func(a, b *entry) int { return a.Created.Compare(b.Created) }
	slices.Reverse(mayEnd) // now oldest first, an order that the stable sort keeps for equal times
	slices.SortStableFunc(mayEnd, oldest)
	return mayEnd[:max(n, 0)], nil
}

// Reassign implements session.Store.
func (s *Store) Reassign(ctx context.Context, request string, seen session.Record, node string, ttl time.Duration) (session.Record, error) {
	if node == "" || seen.Epoch == math.MaxUint64 {
		return session.Record{}, fmt.Errorf("%w: reassign to node %q at epoch %d: the node must not be empty, and the epoch must be below %d",
			session.ErrInvalid, node, seen.Epoch, uint64(math.MaxUint64))
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
	e.assign(request, node, now, ttl)
	return e.Record, nil
}

// attachedSince reports whether the session was attached after the record seen was
// read.
func (e *entry) attachedSince(seen session.Record) bool {
	if seen.State == "" || e.State != session.Attached {
		return false
	}
	return seen.State != e.State || seen.Stream != e.Stream || !seen.Changed.Equal(e.Changed)
}

// assign makes the node the owner, at the entry's current epoch.
func (e *entry) assign(request, node string, now time.Time, ttl time.Duration) {
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
	if stored := e.state; take && stored != nil && stored.takenBy == (session.Lease{}) {
		stored.takenBy = l
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

// prove records the number of a proof, and reports whether it is higher than all
// earlier ones. 0 means no proof; it changes nothing, and prove returns true.
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
func (s *Store) End(ctx context.Context, id string, epoch uint64, reason session.Reason, closeReason string, ttl time.Duration) (session.Record, error) {
	if err := s.lock(ctx); err != nil {
		return session.Record{}, err
	}
	defer s.mu.Unlock()
	now := s.now()
	e, err := s.find(id, now)
	switch {
	case e == nil:
		return session.Record{}, err
	case err != nil: // it has already ended: the first reason stays
		return e.Record, nil
	case epoch != 0 && e.Epoch != epoch:
		return e.Record, session.ErrMoved
	}
	s.end(e, reason, closeReason, now, ttl)
	return e.Record, nil
}

// EndAll implements session.Store.
func (s *Store) EndAll(ctx context.Context, list []session.Ending, ttl time.Duration) []error {
	errs := make([]error, len(list))
	for i, e := range list {
		_, errs[i] = s.End(ctx, e.ID, e.Epoch, e.Reason, "", ttl)
	}
	return errs
}

// EndUser implements session.Store.
func (s *Store) EndUser(ctx context.Context, user string, reason session.Reason, closeReason string, ttl time.Duration) ([]session.Record, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	now := s.now()
	var ended []session.Record
	for e := s.users[user]; e != nil; e = e.older {
		if e.State != session.Ended && now.Before(e.expires) {
			s.end(e, reason, closeReason, now, ttl)
			ended = append(ended, e.Record)
		}
	}
	slices.Reverse(ended)
	slices.SortStableFunc(ended, func(a, b session.Record) int { return a.Created.Compare(b.Created) })
	return ended, nil
}

// end makes the entry a tombstone. s.mu is held.
func (s *Store) end(e *entry, reason session.Reason, closeReason string, now time.Time, ttl time.Duration) {
	e.State, e.Reason, e.CloseReason, e.Changed, e.expires = session.Ended, reason, closeReason, now, now.Add(ttl)
	e.Leaving, e.state = false, nil
	s.ungroup(e.GroupKey(), e.ID)
}
