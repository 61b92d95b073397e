package redis

import (
	"context"
	"fmt"

	"github.com/usher-broker/usher/broker/session"
)

// clearLimit bounds the sessions that one run of a script removes from an index.
const clearLimit = 256

// Sessions implements session.Store. It also removes expired sessions from the
// index. If they are many it runs the script several times; the last run reads the
// list, in one atomic step.
func (s *Store) Sessions(ctx context.Context, user string, limit int) ([]session.Record, error) {
	if limit <= 0 || user == "" {
		return nil, nil
	}
	var list []session.Record
	err := s.do(ctx, "sessions", func(ctx context.Context) error {
		for {
			reply, err := s.run(ctx, sessionsScript, []string{userKey(user)}, []any{limit, clearLimit}).Slice()
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

// sessionList reads the reply of sessions.lua and enduser.lua: whether the work is
// complete, and the list of ids and hashes, alternating.
func sessionList(reply []any) (complete bool, list []session.Record, err error) {
	if len(reply) != 2 {
		return false, nil, fmt.Errorf("a reply of %d elements, want 2", len(reply))
	}
	done, ok := reply[0].(int64)
	if !ok {
		return false, nil, fmt.Errorf("the first element of the reply is a %T, want an integer", reply[0])
	}
	list, err = recordList(reply[1])
	return done == 1, list, err
}

// recordList reads a list of ids and hashes, alternating.
func recordList(reply any) (list []session.Record, err error) {
	items, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("the records of the reply are a %T, want a list", reply)
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
