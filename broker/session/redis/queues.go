package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// Wait implements session.Store.
func (s *Store) Wait(ctx context.Context, queue, entry, by string, ttl time.Duration) (session.QueueStatus, error) {
	var status session.QueueStatus
	err := s.do(ctx, "wait", func(ctx context.Context) error {
		args := []any{entry, milliseconds(ttl), session.QueueRate.Seconds(), session.QueueRecent.Milliseconds()}
		reply, err := s.run(ctx, waitScript, queueKeys(queue, entry, by), args).Slice()
		if err != nil {
			return err
		}
		status, err = queueStatus(reply)
		return err
	})
	return status, err
}

// queueStatus reads the reply of wait.lua.
func queueStatus(reply []any) (session.QueueStatus, error) {
	if len(reply) != 6 {
		return session.QueueStatus{}, fmt.Errorf("%w: a queue status of %d elements, want 6", errCorrupt, len(reply))
	}
	ahead, ok1 := reply[0].(int64)
	waiting, ok2 := reply[1].(int64)
	text, ok3 := reply[2].(string)
	sid, ok4 := reply[3].(string)
	gone, ok5 := reply[4].(int64)
	recent, ok6 := reply[5].(int64)
	rate, err := strconv.ParseFloat(text, 64)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || err != nil {
		return session.QueueStatus{}, fmt.Errorf("%w: an element of the queue status has the wrong type", errCorrupt)
	}
	return session.QueueStatus{Ahead: int(ahead), Waiting: int(waiting), Rate: rate, Session: sid, GivenUp: int(gone), Recent: int(recent)}, nil
}

// Admit implements session.Store.
func (s *Store) Admit(ctx context.Context, queue, entry, sid, by string, ttl time.Duration) error {
	return s.do(ctx, "admit", func(ctx context.Context) error {
		args := []any{entry, sid, max(milliseconds(ttl), 1), session.QueueRate.Seconds()}
		return s.run(ctx, admitScript, queueKeys(queue, entry, by), args).Err()
	})
}
