package lease

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// endRetry is the time between two attempts of FlushEnds.
const endRetry = 100 * time.Millisecond

// SendEnds ends in the store the sessions that have ended here. It returns the first
// error of an unavailable store; the store may not know the remaining ends then. It
// does not need Run.
func (k *Keeper) SendEnds(ctx context.Context) error {
	var first error
	for batch := range slices.Chunk(k.pendingEnds(), endBatch) {
		unanswered, err := k.sendBatch(ctx, batch)
		if first == nil {
			first = err
		}
		if unanswered == len(batch) {
			break
		}
	}
	return first
}

// sendBatch ends the sessions in the store. It returns for how many the store gave no
// answer, and the first error of these.
func (k *Keeper) sendBatch(ctx context.Context, batch []session.Ending) (unanswered int, first error) {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.StoreTimeout)
	defer cancel()
	errs := k.cfg.Store.EndAll(ctx, batch, k.cfg.TombstoneTTL)
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, err := range errs {
		e := batch[i]
		switch {
		case errors.Is(err, session.ErrUnavailable):
			unanswered++
			if first == nil {
				first = err
			}
		case k.ends[e.ID] == e: // else the session has come back and ended again meanwhile
			delete(k.ends, e.ID)
		}
	}
	return unanswered, first
}

// FlushEnds is SendEnds until the store knows all ends or ctx ends. Then it returns the
// cause of ctx.
func (k *Keeper) FlushEnds(ctx context.Context) error {
	for {
		err := k.SendEnds(ctx)
		if err == nil {
			return nil
		}
		if !pause(ctx, endRetry) {
			k.cfg.Logger.Warn("the store does not know that sessions have ended; their users may have to wait until the records expire",
				"sessions", len(k.pendingEnds()), "error", err)
			return context.Cause(ctx)
		}
	}
}

// pendingEnds returns the ends that the store does not know yet.
func (k *Keeper) pendingEnds() []session.Ending {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := make([]session.Ending, 0, len(k.ends))
	for _, e := range k.ends {
		list = append(list, e)
	}
	return list
}

// pause waits for d. It returns false if ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
