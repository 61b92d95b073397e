package lease

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/node/internal/wheel"
)

// Lease is the right of this node to serve a session. Set ID and Epoch before Add and
// do not change them. A Lease must not be copied after Add.
type Lease struct {
	ID    string // of the session
	Epoch uint64 // fencing token: the store refuses what carries another one

	// Keeper.mu protects these. They are ordered by size: a node has many leases.
	owner   Owner              // nil if the Keeper does not keep the lease
	due     wheel.Item[*Lease] // the time of the next renewal
	index   int32              // in Keeper.list
	changes uint32             // calls of Keeper.Changed
	losing  bool               // Owner.Lost runs

	queued    bool // waits for a checkpoint; protected by its shard's mu
	confirmed atomic.Bool
}

// Acquire

// Holder returns what identifies this node in a call of the store, for a session that
// it holds or wants to hold.
func (k *Keeper) Holder(id string, epoch uint64) session.Lease {
	return session.Lease{ID: id, Node: k.cfg.Node, Epoch: epoch, Instance: k.cfg.Instance}
}

// Acquiring says that the caller is about to acquire a lease in the store. From now on
// a stall of the process counts, even if this is the first lease. Call done once, after
// Add or when no lease is added. If the leases were verified after a stall in between,
// done has them verified again, because the new one may have been missing.
func (k *Keeper) Acquiring() (done func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.acquiring++
	k.activate()
	before := k.verified
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.acquiring--
		if k.verified != before && len(k.list) > 0 {
			k.suspect = true
			k.guard.set(0)
		}
	}
}

// Add begins to keep the lease: it is renewed after about a tick and then every
// RenewInterval. The store need not have confirmed it yet, see Confirm. Add does
// nothing if the lease is kept already.
//
// The first renewal is not at once, because the owner may be about to change what the
// acquisition has written: its record must not undo that.
func (k *Keeper) Add(l *Lease, o Owner) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.owner != nil {
		return
	}
	l.owner, l.index = o, int32(len(k.list))
	l.due.Value = l
	k.list = append(k.list, l)
	k.due.Set(&l.due, time.Now().Add(k.tick))
	k.activate()
}

// Confirm records that the store has confirmed that this node holds the lease.
func (k *Keeper) Confirm(l *Lease) { l.confirmed.Store(true) }

// Confirmed reports whether Confirm was called.
func (l *Lease) Confirmed() bool { return l.confirmed.Load() }

// Renew

// soon is the time of a renewal that is due in the next round.
var soon time.Time

// Changed makes the lease due for renewal, because its record is no longer what the
// store knows. A renewal that is in progress does not count.
func (k *Keeper) Changed(l *Lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l.changes++
	if l.owner != nil {
		k.due.Set(&l.due, soon)
	}
}

// Renew renews the leases now, and returns when the store has answered. Leases for
// which it gave no answer are renewed in the next round. Do not call it with a lock held
// that an Owner needs.
func (k *Keeper) Renew(ctx context.Context, list []*Lease) {
	for len(list) > 0 && ctx.Err() == nil {
		size := min(renewBatch, len(list))
		k.renew(ctx, list[:size], time.Now())
		list = list[size:]
	}
}

// renewDue renews the leases that are due. It returns false, and leaves the rest for
// the next round, if the store answers for none of a batch.
func (k *Keeper) renewDue(ctx context.Context, now time.Time) bool {
	due := k.due.Due(now)
	for len(due) > 0 {
		size := min(renewBatch, len(due))
		unanswered := k.renew(ctx, due[:size], now)
		due = due[size:]
		if len(unanswered) == size {
			k.renewSoon(due)
			return false
		}
	}
	return true
}

// renewSoon makes the leases due in the next round.
func (k *Keeper) renewSoon(list []*Lease) {
	for _, l := range list {
		k.schedule(l, soon)
	}
}

// renewal is the renewal of one lease in a batch.
type renewal struct {
	lease   *Lease
	owner   Owner
	changes uint32 // of the lease before its record was made
}

// renew renews a batch of leases, and notifies the owners of those that have ended or
// belong to another node according to the store. It returns the leases for which the
// store gave no answer. Each is scheduled for its next renewal.
func (k *Keeper) renew(ctx context.Context, list []*Lease, now time.Time) (unanswered []*Lease) {
	batch := k.begin(list)
	if len(batch) == 0 {
		return nil
	}
	records := make([]session.Record, len(batch))
	ttls := make([]time.Duration, len(batch))
	for i, r := range batch {
		records[i], ttls[i] = r.owner.Record(now)
	}
	ctx, cancel := context.WithTimeout(ctx, batchTimeouts*k.cfg.StoreTimeout)
	defer cancel()
	for i, err := range k.cfg.Store.Renew(ctx, records, ttls) {
		r := batch[i]
		switch {
		case err == nil:
			k.renewed(r, now.Add(k.cfg.RenewInterval))
			continue
		case k.loseIf(ctx, r.lease, err):
			continue
		}
		k.cfg.Metrics.RenewFailed()
		k.schedule(r.lease, soon)
		if errors.Is(err, session.ErrUnavailable) {
			unanswered = append(unanswered, r.lease)
		}
	}
	return unanswered
}

// begin returns the renewals of those leases that are still kept. Their records are
// made afterwards, so whatever changes from now on is seen by renewed.
func (k *Keeper) begin(list []*Lease) []renewal {
	k.mu.Lock()
	defer k.mu.Unlock()
	batch := make([]renewal, 0, len(list))
	for _, l := range list {
		k.awaitLoss(l)
		if l.owner != nil {
			batch = append(batch, renewal{l, l.owner, l.changes})
		}
	}
	return batch
}

// renewed sets the time of the next renewal. It is in the next round if the record has
// changed since the renewal began.
func (k *Keeper) renewed(r renewal, next time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case r.lease.owner == nil:
	case r.lease.changes != r.changes:
		k.due.Set(&r.lease.due, soon)
	default:
		k.due.Set(&r.lease.due, next)
	}
}

// schedule sets the time of the next renewal if the lease is still kept.
func (k *Keeper) schedule(l *Lease, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.owner != nil {
		k.due.Set(&l.due, at)
	}
}

// Lose

// loseIf notifies the owner, and returns true, if the error of the store says that the
// session has ended or belongs to another node.
func (k *Keeper) loseIf(ctx context.Context, l *Lease, err error) bool {
	var r session.Record
	switch {
	case errors.Is(err, session.ErrMoved):
	case errors.Is(err, session.ErrEnded):
		r, _ = k.cfg.Store.Get(ctx, l.ID) // r is empty if the store does not answer
	default:
		return false
	}
	if o := k.beginLoss(l); o != nil {
		o.Lost(err, r)
		k.endLoss(l)
	}
	return true
}

// beginLoss returns the owner to notify. It returns nil if the lease is no longer kept,
// because its owner was notified already. While another call notifies the owner it
// waits: once a lost lease was verified, no message may pass for it.
func (k *Keeper) beginLoss(l *Lease) Owner {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.awaitLoss(l)
	if l.owner == nil {
		return nil
	}
	l.losing = true
	return l.owner
}

// awaitLoss waits while Owner.Lost runs for the lease. k.mu is held, but not while it
// waits.
func (k *Keeper) awaitLoss(l *Lease) {
	for l.losing {
		k.lossEnded.Wait()
	}
}

// endLoss removes a lease that is lost.
func (k *Keeper) endLoss(l *Lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l.losing = false
	k.remove(l)
	k.lossEnded.Broadcast()
}

// Release

// Remove stops keeping the lease and leaves the store as it is: the session has moved,
// is persisted for its next owner, or is lost.
func (k *Keeper) Remove(l *Lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remove(l)
}

// End stops keeping the lease, and ends the session in the store. This is repeated
// until the store knows.
func (k *Keeper) End(l *Lease, reason session.Reason) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remove(l)
	k.ends[l.ID] = session.Ending{ID: l.ID, Epoch: l.Epoch, Reason: reason}
	signal(k.wake)
}

// remove takes the lease out of the list and the wheel, unless Owner.Lost runs: then
// endLoss does it. k.mu is held.
func (k *Keeper) remove(l *Lease) {
	if l.owner == nil || l.losing {
		return
	}
	last := k.list[len(k.list)-1]
	k.list[l.index], last.index = last, l.index
	k.list[len(k.list)-1] = nil
	k.list = k.list[:len(k.list)-1]
	l.owner = nil
	k.due.Remove(&l.due)
}
