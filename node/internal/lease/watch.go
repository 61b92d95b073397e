package lease

import (
	"context"
	"errors"

	"github.com/usher-broker/usher/broker/session"
)

// Down reports whether the store did not answer the last ping. A Keeper without leases
// pings rarely; the first lease makes it ping at once, or within a tick of the last
// ping.
func (k *Keeper) Down() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.down
}

// pingStore reports whether the store is available. If it is available again, all
// leases become due: it may have lost records.
func (k *Keeper) pingStore(ctx context.Context) bool {
	pingCtx, cancel := context.WithTimeout(ctx, k.cfg.StoreTimeout)
	defer cancel()
	err := k.cfg.Store.Ping(pingCtx)
	if ctx.Err() != nil {
		return false // Run ends; this says nothing about the store
	}
	down := err != nil
	if !k.setDown(down) {
		return !down
	}
	if down {
		k.cfg.Logger.Warn("store unavailable; still serving attached sessions", "error", err)
		return false
	}
	k.cfg.Logger.Info("store available again")
	k.renewSoon(k.all())
	return true
}

// setDown records whether the store is down. It returns false if that is known.
func (k *Keeper) setDown(down bool) (changed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	changed = down != k.down
	k.down = down
	return changed
}

// sampleSize is how many leases lostRecords looks up.
const sampleSize = 3

// lostRecords reports whether the store has lost records: it looks up a few of the
// leases that are kept. pingStore does not notice a store that restarts quickly without
// its data.
func (k *Keeper) lostRecords(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.StoreTimeout)
	defer cancel()
	for _, id := range k.sampleIDs(sampleSize) {
		if _, err := k.cfg.Store.Get(ctx, id); errors.Is(err, session.ErrNotFound) {
			return true
		}
	}
	return false
}

// fenceChanged reports whether another member has ended or reassigned sessions of this
// node without reaching it.
func (k *Keeper) fenceChanged(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.StoreTimeout)
	defer cancel()
	text, err := k.cfg.Store.Fenced(ctx, k.cfg.Node)
	if err != nil {
		return false // asked again in the next round
	}
	changed := k.lastFenced != nil && *k.lastFenced != text
	k.lastFenced = &text
	return changed
}
