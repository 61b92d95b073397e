package redis

import (
	"context"
	"errors"
	"fmt"

	"github.com/usher-broker/usher/broker/session"
)

// clearAtOnce bounds the sessions that are gone and that one run of the
// script takes out of an index.
const clearAtOnce = 256

// Sessions implements session.Store. It clears the index as it reads. When
// there is a lot to clear it does so in several steps; the last of them reads
// the list, as one.
func (s *Store) Sessions(ctx context.Context, user string, limit int) ([]session.Record, error) {
	if limit <= 0 || user == "" {
		return nil, nil
	}
	var list []session.Record
	err := s.do(ctx, "sessions", func(ctx context.Context) error {
		for {
			reply, err := s.run(ctx, sessionsScript, userKey(user), []any{limit, clearAtOnce}).Slice()
			if err != nil {
				return err
			}
			complete, records, err := sessionList(reply)
			if err != nil {
				return fmt.Errorf("%w: %w", errCorrupt, err)
			}
			if complete {
				list = records
				return nil
			}
		}
	})
	return list, err
}

// sessionList reads the reply of the script: whether it is complete, and ids
// and hashes by turns.
func sessionList(reply []any) (complete bool, list []session.Record, err error) {
	if len(reply) != 2 {
		return false, nil, errors.New("a reply of another length")
	}
	whole, ok := reply[0].(int64)
	if !ok {
		return false, nil, errors.New("a reply of other types")
	}
	list, err = recordList(reply[1])
	return whole == 1, list, err
}

// recordList reads ids and hashes by turns.
func recordList(reply any) (list []session.Record, err error) {
	items, ok := reply.([]any)
	if !ok {
		return nil, errors.New("no list of records")
	}
	for i := 0; i+1 < len(items); i += 2 {
		id, _ := items[i].(string)
		hash, _ := items[i+1].([]any)
		r, err := record(id, hash)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}
