package redis

import (
	"context"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// batcher sends the commands of concurrent callers together, each batch on one
// connection: most of the cost of a small command is the system calls of both sides.
// A single caller does not wait for others. In a Redis Cluster there are no batches,
// because a master that hangs would delay the commands to all other masters.
type batcher struct {
	client   goredis.UniversalClient
	timeout  time.Duration
	separate bool // each command is sent by itself

	mu      sync.Mutex
	waiting []*pendingCmd
	running int
	closed  bool           // no run starts any more
	wg      sync.WaitGroup // of runs
}

const (
	// maxBatches is how many batches are sent at the same time. With more, each
	// would be smaller; with only one, a connection that hangs would delay all
	// callers.
	maxBatches = 2
	// maxBatch is the largest number of commands in a batch.
	maxBatch = 256
)

// pendingCmd is a command whose caller waits for the reply.
type pendingCmd struct {
	ctx  context.Context
	cmd  *onceCmd
	done chan struct{}
}

// process sends the command, and waits for the reply or for ctx to end. It returns
// the error of cmd, which then has the reply, or that of ctx.
func (b *batcher) process(ctx context.Context, cmd *onceCmd) error {
	if b.separate {
		return b.client.Process(ctx, cmd)
	}
	p := &pendingCmd{ctx, cmd, make(chan struct{})}
	if !b.add(p) {
		return goredis.ErrClosed
	}
	select {
	case <-p.done:
		return cmd.Err()
	case <-ctx.Done():
		return ctx.Err() // the batch still uses cmd, and may execute it
	}
}

// add has the command sent. It returns false if the batcher is closed.
func (b *batcher) add(p *pendingCmd) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.waiting = append(b.waiting, p)
	if b.running < maxBatches {
		b.running++
		b.wg.Go(b.run)
	}
	return true
}

// close waits until no command is being sent. Close the client first, so that this
// takes no time.
func (b *batcher) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.wg.Wait()
}

// run sends batches until no command is waiting.
func (b *batcher) run() {
	for {
		list := b.next()
		if list == nil {
			return
		}
		b.send(list)
	}
}

// next returns the commands of the next batch. If there are none it returns nil, and
// the calling run must end.
func (b *batcher) next() []*pendingCmd {
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

func (b *batcher) send(list []*pendingCmd) {
	ctx, cancel := context.WithTimeout(context.Background(), b.timeout)
	defer cancel()
	pipe := b.client.Pipeline()
	for _, p := range list {
		if err := p.ctx.Err(); err != nil { // its caller gives up, or has done so
			p.cmd.SetErr(err)
			continue
		}
		_ = pipe.Process(ctx, p.cmd)
	}
	if pipe.Len() > 0 {
		_, _ = pipe.Exec(ctx) // each command has its own error
	}
	for _, p := range list {
		close(p.done)
	}
}
