package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// fenceTTL is how long a fence is kept: much longer than a node takes to read it.
// When the key expires, the text changes once more, and the node checks its sessions
// once more than necessary.
const fenceTTL = time.Hour

// Fence implements session.Store.
func (s *Store) Fence(ctx context.Context, node string) error {
	return s.do(ctx, "fence", func(ctx context.Context) error {
		return s.client.Process(ctx, newCommand(ctx, "set", fenceKey(node), rand.Text(), "px", milliseconds(fenceTTL)))
	})
}

// Fenced implements session.Store.
func (s *Store) Fenced(ctx context.Context, node string) (text string, err error) {
	err = s.do(ctx, "fenced", func(ctx context.Context) error {
		cmd := newCommand(ctx, "get", fenceKey(node))
		_ = s.client.Process(ctx, cmd) // cmd has the error
		text, err = cmd.Text()
		if errors.Is(err, goredis.Nil) {
			return nil
		}
		return err
	})
	return text, err
}
