package redis

import (
	"context"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// batcher sends the commands of callers that come at the same time together, each
// batch on one connection: of what a small command costs, most is the system calls
// of both sides. A caller alone does not wait for others. In a Redis Cluster there
// are no batches: a master that hangs would hold up the commands to all others.
type batcher struct {
	client  goredis.UniversalClient
	timeout time.Duration
	alone   bool // each command is sent by itself

	mu      sync.Mutex
	waiting []*call
	running int
}

// Batches under way at the same time, and commands in one. With more of them, each
// would be smaller; with one alone a connection that hangs would hold up everybody.
const (
	maxBatches = 2
	maxBatch   = 256
)

// call is a command and who waits for it.
type call struct {
	ctx  context.Context
	cmd  *once
	done chan struct{}
}

// process sends the command and waits for the reply, which is in the command then,
// or for ctx to end.
func (b *batcher) process(ctx context.Context, cmd *once) error {
	if b.alone {
		return b.client.Process(ctx, cmd)
	}
	c := &call{ctx, cmd, make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, c)
	start := b.running < maxBatches
	if start {
		b.running++
	}
	b.mu.Unlock()
	if start {
		go b.run()
	}
	select {
	case <-c.done:
		return cmd.Err()
	case <-ctx.Done():
		return ctx.Err() // the command is the batch's, and may still be executed
	}
}

// run sends batches until nobody waits.
func (b *batcher) run() {
	for {
		list := b.take()
		if list == nil {
			return
		}
		b.send(list)
	}
}

func (b *batcher) take() []*call {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), maxBatch)
	if n == 0 {
		b.running--
		b.waiting = nil
		return nil
	}
	list := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	return list
}

func (b *batcher) send(list []*call) {
	ctx, cancel := context.WithTimeout(context.Background(), b.timeout)
	defer cancel()
	pipe := b.client.Pipeline()
	for _, c := range list {
		if c.ctx.Err() == nil { // or nobody waits any more
			_ = pipe.Process(ctx, c.cmd)
		}
	}
	if pipe.Len() > 0 {
		_, _ = pipe.Exec(ctx) // each command has its own error
	}
	for _, c := range list {
		close(c.done)
	}
}
