package lease

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/usher-broker/usher/node/internal/lock"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/node/internal/wheel"
)

const (
	// renewBatch is how many leases are renewed by one call of the store.
	renewBatch = 512
	// endBatch is how many sessions are ended by one call of the store.
	endBatch = 256
	// batchTimeouts is how many times StoreTimeout a batch of renewals may take.
	batchTimeouts = 5
	// idleInterval is the time between two pings of the store while there are
	// neither leases nor ends.
	idleInterval = 10 * time.Second
	// slotsPerTick is how many buckets of the wheel belong to one tick: a renewal is
	// up to one bucket late, and then waits for the next round.
	slotsPerTick = 8
)

// Keeper keeps the leases of a node. Create it with New. All methods are safe for
// concurrent use.
type Keeper struct {
	cfg    Config
	tick   time.Duration
	due    *wheel.Wheel[*Lease] // leases by the time of their next renewal
	guard  *stallGuard
	seed   maphash.Seed // spreads the leases over the shards
	shards [checkpointShards]checkpointShard
	wake   chan struct{} // there is something new to do before the next round

	mu        lock.Mutex[lock.Leases] // protects the following
	list      []*Lease                // all that are kept, in no order
	acquiring int                     // calls of Acquiring that are not done
	verified  int                     // times that all leases were listed to verify them
	suspect   bool                    // a lease may have been missing then
	ends      map[string]session.Ending
	down      bool
	lossEnded sync.Cond // a call of Owner.Lost has returned

	lastFenced *string // the last result of Fenced; used by sync only
}

// New returns a Keeper without leases.
func New(cfg Config) *Keeper {
	cfg.setDefaults()
	tick := cfg.tick()
	k := &Keeper{
		cfg:   cfg,
		tick:  tick,
		due:   wheel.New[*Lease](max(tick/slotsPerTick, 1)),
		guard: newStallGuard(),
		seed:  maphash.MakeSeed(),
		wake:  make(chan struct{}, 1),
		ends:  make(map[string]session.Ending),
	}
	k.lossEnded.L = &k.mu
	for i := range k.shards {
		k.shards[i].wake = make(chan struct{}, 1)
	}
	return k
}

// Run renews leases, sends ends, writes checkpoints and watches for stalls until ctx
// ends. It returns when its goroutines have ended. At most one Run may run at a time.
func (k *Keeper) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { k.watchStalls(ctx) })
	for i := range k.shards {
		wg.Go(func() { k.runCheckpoints(ctx, &k.shards[i]) })
	}
	k.runRounds(ctx)
	wg.Wait()
}

// runRounds runs a round at each tick, or each idleInterval while there is nothing to
// do, until ctx ends. Ends do not wait for the round.
func (k *Keeper) runRounds(ctx context.Context) {
	var last time.Time // start of the last round
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		t.Reset(time.Until(last.Add(k.interval())))
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
			if !k.Down() {
				_ = k.SendEnds(ctx) // sync sends again what the store did not take
			}
		case <-t.C:
			last = time.Now()
			k.sync(ctx, last)
		}
	}
}

// sync writes to the store everything that it should know by now. It stops when the
// store becomes unavailable.
func (k *Keeper) sync(ctx context.Context, now time.Time) {
	if !k.pingStore(ctx) {
		return
	}
	if k.lostRecords(ctx) {
		k.cfg.Logger.Warn("store has lost records; writing them again")
		k.cfg.Metrics.StoreLost()
		k.renewSoon(k.all())
	}
	if k.fenceChanged(ctx) {
		k.cfg.Logger.Info("another member may have taken sessions of this node; asking the store")
		k.renewSoon(k.all())
	}
	if k.renewDue(ctx, now) {
		_ = k.SendEnds(ctx) // repeated in the next round
	}
}

// interval returns the time between two rounds.
func (k *Keeper) interval() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.list)+k.acquiring+len(k.ends) == 0 {
		return idleInterval
	}
	return k.tick
}

// activate ends the rest of an empty Keeper: the stall guard beats, and the next round
// is no longer idleInterval away. The caller has just added a lease or an acquisition.
// k.mu is held.
func (k *Keeper) activate() {
	started := k.guard.start()
	if started || len(k.list)+k.acquiring == 1 {
		signal(k.wake)
	}
}

// signal makes sure that c, which has a buffer of one, has a value. It does not block.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// all returns the leases that are kept.
func (k *Keeper) all() []*Lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.list)
}

// sampleIDs returns the ids of a few leases, different ones each time, possibly with
// repetitions.
func (k *Keeper) sampleIDs(count int) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	ids := make([]string, 0, count)
	for range min(count, len(k.list)) {
		ids = append(ids, k.list[rand.IntN(len(k.list))].ID)
	}
	return ids
}
