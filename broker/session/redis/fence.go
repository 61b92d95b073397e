package redis

import (
	"context"
	"crypto/rand"
	"time"
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
func (s *Store) Fenced(ctx context.Context, node string) (string, error) {
	return s.text(ctx, "fenced", fenceKey(node))
}
