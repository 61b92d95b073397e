package lease

import (
	"context"
	"hash/maphash"
	"time"

	"github.com/usher-broker/usher/node/internal/lock"

	"github.com/usher-broker/usher/broker/session"
)

const (
	// checkpointShards is how many batches of checkpoints are built and written at
	// the same time: a slow snapshot or a slow answer of the store delays only the
	// leases of its shard.
	checkpointShards = 8
	checkpointBatch  = 256
	// checkpointRetry is the time after which a shard tries again what the store did
	// not take.
	checkpointRetry = 100 * time.Millisecond
)

// checkpointShard queues leases for a checkpoint. A lease belongs to one shard, so its
// checkpoints follow one another.
type checkpointShard struct {
	wake chan struct{} // has a value when the queue may have leases

	mu    lock.Mutex[lock.Leaf]
	queue []*Lease // each once
}

// Checkpoint queues the lease for a checkpoint. Whatever happened before the call is
// in it. A lease that is queued already is not queued again; it is no longer queued
// when Owner.Checkpoint is called. To number checkpoints, an Owner needs a flag of its
// own, which it sets here and resets when it builds the checkpoint, both with its lock
// held.
func (k *Keeper) Checkpoint(l *Lease) {
	sh := k.shardOf(l)
	if sh.add(l) {
		signal(sh.wake)
	}
}

func (k *Keeper) shardOf(l *Lease) *checkpointShard {
	return &k.shards[maphash.String(k.seed, l.ID)%checkpointShards]
}

func (sh *checkpointShard) add(l *Lease) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if l.queued {
		return false
	}
	l.queued = true
	sh.queue = append(sh.queue, l)
	return true
}

// takeBatch takes the next leases from the queue.
func (sh *checkpointShard) takeBatch() []*Lease {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := min(checkpointBatch, len(sh.queue))
	batch := sh.queue[:n:n]
	if sh.queue = sh.queue[n:]; len(sh.queue) == 0 {
		sh.queue = nil
	}
	for _, l := range batch {
		l.queued = false // before the checkpoint is built: what happens meanwhile needs another one
	}
	return batch
}

// runCheckpoints writes the checkpoints of the shard until ctx ends.
func (k *Keeper) runCheckpoints(ctx context.Context, sh *checkpointShard) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-sh.wake:
		}
		for list := sh.takeBatch(); len(list) > 0; list = sh.takeBatch() {
			if k.writeCheckpoints(ctx, list) {
				continue
			}
			if !pause(ctx, checkpointRetry) {
				return
			}
		}
	}
}

// writeCheckpoints builds the checkpoints of the leases and stores them. It queues those
// that the store did not take again, and returns false if there are any.
func (k *Keeper) writeCheckpoints(ctx context.Context, list []*Lease) (ok bool) {
	leases, built := k.buildCheckpoints(list)
	if len(built) == 0 {
		return true
	}
	saved := make([]session.Saved, len(built))
	for i, c := range built {
		saved[i] = c.Saved
	}
	ctx, cancel := context.WithTimeout(ctx, k.cfg.StoreTimeout)
	defer cancel()
	ok = true
	for i, err := range k.cfg.Store.Save(ctx, saved) {
		l := leases[i]
		switch {
		case err == nil:
			built[i].Commit()
		case k.loseIf(ctx, l, err):
		default: // the store is unavailable, or has lost the record, which the renewal restores
			k.cfg.Metrics.CheckpointFailed()
			k.Changed(l)
			built[i].Failed()
			k.Checkpoint(l)
			ok = false
		}
	}
	return ok
}

// buildCheckpoints returns the leases that have something to store, and what.
func (k *Keeper) buildCheckpoints(list []*Lease) (leases []*Lease, built []Checkpoint) {
	for _, l := range list {
		o := k.ownerOf(l)
		if o == nil {
			continue
		}
		if c, status := o.Checkpoint(); status == CheckpointReady {
			leases, built = append(leases, l), append(built, c)
		}
	}
	return leases, built
}

// ownerOf returns the owner of the lease, or nil if it is no longer kept or is lost.
func (k *Keeper) ownerOf(l *Lease) Owner {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.losing {
		return nil
	}
	return l.owner
}
