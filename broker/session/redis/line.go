package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

func lineKey(line string) string {
	sum := sha256.Sum256([]byte(line))
	return "usher:line:{" + hex.EncodeToString(sum[:16]) + "}"
}

// Wait implements session.Store.
func (s *Store) Wait(ctx context.Context, line, place, by string, ttl time.Duration) (session.QueueStatus, error) {
	var p session.QueueStatus
	err := s.do(ctx, "wait", func(ctx context.Context) error {
		args := []any{place, milliseconds(ttl), session.QueueRate.Seconds(), by, session.QueueRecent.Milliseconds()}
		reply, err := s.run(ctx, waitScript, lineKey(line), args).Slice()
		if err != nil {
			return err
		}
		p, err = placeOf(reply)
		return err
	})
	return p, err
}

func placeOf(reply []any) (session.QueueStatus, error) {
	if len(reply) != 6 {
		return session.QueueStatus{}, fmt.Errorf("%w: a place of %d parts", errCorrupt, len(reply))
	}
	ahead, ok1 := reply[0].(int64)
	waiting, ok2 := reply[1].(int64)
	text, ok3 := reply[2].(string)
	sid, ok4 := reply[3].(string)
	gone, ok5 := reply[4].(int64)
	lately, ok6 := reply[5].(int64)
	rate, err := strconv.ParseFloat(text, 64)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || err != nil {
		return session.QueueStatus{}, fmt.Errorf("%w: a place of other parts", errCorrupt)
	}
	return session.QueueStatus{Ahead: int(ahead), Waiting: int(waiting), Rate: rate, Session: sid, GivenUp: int(gone), Recent: int(lately)}, nil
}

// Seat implements session.Store.
func (s *Store) Admit(ctx context.Context, line, place, sid, by string, ttl time.Duration) error {
	return s.do(ctx, "seat", func(ctx context.Context) error {
		args := []any{place, sid, max(milliseconds(ttl), 1), session.QueueRate.Seconds(), by}
		return s.run(ctx, admitScript, lineKey(line), args).Err()
	})
}
