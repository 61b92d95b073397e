package lease

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// storedState returns the state in the store, as the next owner reads it.
func (r *rig) storedState(o *testOwner) string {
	_, found, err := r.store.Restore(r.Context(), session.Lease{ID: o.lease.ID, Node: "node-1", Epoch: o.lease.Epoch, Instance: "next"})
	if err != nil {
		r.fault("restore: %v", err)
	}
	return string(found.State)
}

// A checkpoint is stored, and committed only then. Any number of calls before it is
// built make one checkpoint; a call afterwards makes another one.
func TestCheckpoint(t *testing.T) {
	inBubble(t, func(r *rig) {
		o := r.add("ada")
		after(time.Minute)
		release := r.store.holdCalls("Save")
		for range 3 {
			r.keeper.Checkpoint(&o.lease)
		}
		synctest.Wait()
		if o.storedSeq() != 0 {
			r.Error("committed before it was stored")
		}
		for range 3 {
			r.keeper.Checkpoint(&o.lease)
		}
		release()
		after(0)
		if state := r.storedState(o); o.storedSeq() != 2 || state != "2" || r.store.count("Save") != 2 {
			r.Errorf("checkpoint %d is committed, %s is stored, %d calls", o.storedSeq(), state, r.store.count("Save"))
		}
	})
}

// What happens while a checkpoint is built is in the next one.
func TestCheckpointWhileBuilding(t *testing.T) {
	inBubble(t, func(r *rig) {
		o := r.add("ada")
		o.building = func() {
			if o.seq == 0 {
				r.keeper.Checkpoint(&o.lease)
			}
		}
		r.keeper.Checkpoint(&o.lease)
		after(time.Second)
		if n := o.storedSeq(); n != 2 {
			r.Errorf("%d checkpoints", n)
		}
	})
}

// An owner that is busy, or has nothing to store, is not asked again until it says so.
func TestCheckpointBusy(t *testing.T) {
	inBubble(t, func(r *rig) {
		for _, status := range []CheckpointStatus{CheckpointBusy, CheckpointNothing} {
			o, asked := r.add(fmt.Sprint("u", status)), 0
			o.status, o.building = status, func() { asked++ }
			r.keeper.Checkpoint(&o.lease)
			after(time.Minute)
			if asked != 1 || r.store.count("Save") != 0 {
				r.Errorf("asked %d times, %d calls of the store", asked, r.store.count("Save"))
			}
			o.status = CheckpointReady
			r.keeper.Checkpoint(&o.lease)
			if after(0); o.storedSeq() != 1 {
				r.Error("not stored")
			}
			r.store.counter("Save").Store(0)
		}
	})
}

// A checkpoint that the store did not take is built and stored again, until it is.
func TestCheckpointDuringOutage(t *testing.T) {
	inBubble(t, func(r *rig) {
		o := r.add("ada")
		after(time.Minute)
		r.store.down.Store(true)
		r.keeper.Checkpoint(&o.lease)
		after(10 * time.Second)
		if n := r.store.count("Save"); n < 90 || n > 110 || int(r.failed.Load()) != n {
			r.Errorf("%d calls in 10 s, %d failures", n, r.failed.Load())
		}
		r.store.down.Store(false)
		after(checkpointRetry)
		if o.storedSeq() != o.seq || r.storedState(o) != fmt.Sprint(o.seq) {
			r.Errorf("checkpoint %d of %d is stored", o.storedSeq(), o.seq)
		}
	})
}

// A store that has lost the record gets it again in the next round.
func TestCheckpointOfLostRecord(t *testing.T) {
	inBubble(t, func(r *rig) {
		o := r.add("ada")
		after(5500 * time.Millisecond)
		r.store.failCalls("Save", session.ErrNotFound)
		r.store.counter("Renew").Store(0)
		r.keeper.Checkpoint(&o.lease)
		if after(r.keeper.tick); r.store.count("Renew") != 1 {
			r.Errorf("%d renewals", r.store.count("Renew"))
		}
		r.store.failCalls("Save", nil)
		if after(checkpointRetry); o.storedSeq() != o.seq {
			r.Error("not stored")
		}
	})
}

// The store says in its answer to a checkpoint that the lease is lost.
func TestCheckpointLost(t *testing.T) {
	inBubble(t, func(r *rig) {
		o := r.add("ada")
		after(5500 * time.Millisecond)
		r.takeOver(o, false)
		r.keeper.Checkpoint(&o.lease)
		synctest.Wait()
		if o.losses() != 1 || !errors.Is(o.lost[0], session.ErrMoved) {
			r.Errorf("%v", o.lost)
		}
		r.keeper.Checkpoint(&o.lease) // a call of the owner would be a fault
		after(time.Minute)
	})
}

// shardOwners returns two owners whose leases belong to different shards.
func shardOwners(r *rig) (a, b *testOwner) {
	shard := func(o *testOwner) *checkpointShard { return r.keeper.shardOf(&o.lease) }
	a = r.add("ada")
	for i := 0; ; i++ {
		if b = r.add(fmt.Sprint("u", i)); shard(b) != shard(a) {
			return a, b
		}
	}
}

// A slow snapshot, and a slow answer of the store, delay no other shard.
func TestCheckpointShards(t *testing.T) {
	inBubble(t, func(r *rig) {
		a, b := shardOwners(r)
		after(5500 * time.Millisecond)
		a.building = func() { time.Sleep(time.Second) }
		r.keeper.Checkpoint(&a.lease)
		synctest.Wait()
		r.keeper.Checkpoint(&b.lease)
		if synctest.Wait(); b.storedSeq() != 1 {
			r.Error("a slow snapshot delays another shard")
		}
		after(time.Second)
		a.building = nil
		release := r.store.holdCalls("Save")
		r.keeper.Checkpoint(&a.lease)
		synctest.Wait()
		r.store.mu.Lock()
		delete(r.store.hold, "Save")
		r.store.mu.Unlock()
		r.keeper.Checkpoint(&b.lease)
		if after(0); b.storedSeq() != 2 {
			r.Error("a slow answer delays another shard")
		}
		release()
		if after(0); a.storedSeq() != 2 {
			r.Error("not stored")
		}
	})
}

// Many checkpoints go to the store in batches of bounded size.
func TestCheckpointBatches(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.store.delay = time.Millisecond
		var owners []*testOwner
		for i := range 4000 {
			owners = append(owners, r.add(fmt.Sprint("u", i)))
		}
		after(5500 * time.Millisecond)
		for _, o := range owners {
			r.keeper.Checkpoint(&o.lease)
		}
		after(20 * time.Millisecond)
		for _, o := range owners {
			if o.storedSeq() != 1 {
				r.Fatal("not stored")
			}
		}
		if n := r.store.count("Save"); n < 4000/checkpointBatch || n > 5*checkpointShards {
			r.Errorf("%d calls for 4000 checkpoints", n)
		}
	})
}
