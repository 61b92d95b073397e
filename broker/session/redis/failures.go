package redis

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

//go:embed fail.lua
var failLua string

var failScript = newScript(failLua)

// The methods below implement auth.Failures, the count of failed logins that all
// auths share. The ttl of a key is the time until all its failures are forgiven, so
// there are only keys for recent failures.

// Forgiven returns, for each key, the time until all its failures are forgiven; 0 if
// there are none.
func (s *Store) Forgiven(ctx context.Context, keys []string) ([]time.Duration, error) {
	left := make([]time.Duration, len(keys))
	err := s.do(ctx, "forgiven", func(ctx context.Context) error {
		cmds, err := s.client.Pipelined(ctx, func(p goredis.Pipeliner) error {
			for _, key := range keys {
				p.PTTL(ctx, failuresKey(key))
			}
			return nil
		})
		if err != nil {
			return err
		}
		for i, cmd := range cmds {
			ttl, ok := cmd.(*goredis.DurationCmd)
			if !ok {
				return fmt.Errorf("%w: %s", errCorrupt, cmd.Name())
			}
			left[i] = max(ttl.Val(), 0) // below 0 if the key does not exist
		}
		return nil
	})
	return left, err
}

// Fail counts a failure. It is forgiven the time every after the failures before it
// are.
func (s *Store) Fail(ctx context.Context, key string, every time.Duration) error {
	return s.do(ctx, "fail", func(ctx context.Context) error {
		return s.run(ctx, failScript, []string{failuresKey(key)}, []any{milliseconds(every)}).Err()
	})
}

// Forgive forgives all failures of the key.
func (s *Store) Forgive(ctx context.Context, key string) error {
	return s.do(ctx, "forgive", func(ctx context.Context) error {
		err := s.client.Process(ctx, newCommand(ctx, "del", failuresKey(key)))
		if errors.Is(err, goredis.Nil) {
			return nil
		}
		return err
	})
}
