package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// Park implements session.Store. The state lies beside the record, under
// usher:{tag}:parked:<id>.
func (s *Store) Park(ctx context.Context, l session.Lease, stream string, state []byte, ttl time.Duration) error {
	_, err := s.transition(ctx, "park", parkScript, l.ID, ttl, l.Node, formatEpoch(l.Epoch), stream, state)
	return err
}

// Unpark implements session.Store.
func (s *Store) Unpark(ctx context.Context, l session.Lease, stream string) ([]byte, error) {
	tag, ok := session.TagOf(l.ID)
	if !ok {
		return nil, session.ErrNotFound
	}
	var state []byte
	err := s.do(ctx, "unpark", func(ctx context.Context) error {
		args := []any{l.ID, 0, l.Node, formatEpoch(l.Epoch), stream}
		reply, err := s.run(ctx, unparkScript, sessionKey(tag, l.ID), args).Slice()
		if err != nil {
			return err
		}
		if _, err := outcomeOf(l.ID, reply); err != nil || len(reply) < 3 {
			return err
		}
		text, ok := reply[2].(string)
		if !ok {
			return fmt.Errorf("%w: parked state of %s", errCorrupt, l.ID)
		}
		state = []byte(text)
		return nil
	})
	return state, err
}
