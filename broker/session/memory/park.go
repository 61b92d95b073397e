package memory

import (
	"bytes"
	"context"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// parked is the state of a stream that nobody serves. It is forgotten with its
// record.
type parked struct {
	stream string
	state  []byte
	taker  session.Lease // who has it now; zero for nobody
}

// Park implements session.Store.
func (s *Store) Park(ctx context.Context, l session.Lease, stream string, state []byte, ttl time.Duration) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	now := s.now()
	e, err := s.serving(l, stream, now)
	if err != nil {
		return err
	}
	e.parked = &parked{stream: stream, state: bytes.Clone(state)}
	e.State, e.Changed, e.expires = session.Detached, now, now.Add(ttl)
	return nil
}

// Unpark implements session.Store.
func (s *Store) Unpark(ctx context.Context, l session.Lease, stream string) ([]byte, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	e, err := s.serving(l, stream, s.now())
	if err != nil {
		return nil, err
	}
	p := e.parked
	if p == nil || p.stream != stream || p.taker != (session.Lease{}) && p.taker != l {
		return nil, nil
	}
	p.taker = l
	return bytes.Clone(p.state), nil
}

// serving returns the entry of a session if the lease is its owner's and the
// stream its own. s.mu is held.
func (s *Store) serving(l session.Lease, stream string, now time.Time) (*entry, error) {
	e, err := s.find(l.ID, now)
	switch {
	case err != nil:
		return nil, err
	case e.Node != l.Node || e.Epoch != l.Epoch || e.Stream != stream:
		return nil, session.ErrMoved
	}
	return e, nil
}
