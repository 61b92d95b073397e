package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
)

// target is a node that a session may go to.
type target struct {
	id, url string
	picked  bool // the placement counts a session on its way there
}

// choose returns the node for a session: that of its group, or else the
// placement's. Unless the session then goes there, the target is to be given to
// unpick.
func (b *Broker) choose(ctx context.Context, r session.Record, exclude string) (target, error) {
	to, err := b.pick(hints(r, exclude))
	if err != nil || r.Group == "" {
		return to, err
	}
	bound, err := b.bind(ctx, r, to, exclude)
	if err != nil || bound.id != to.id {
		b.unpick(to)
	}
	return bound, err
}

func hints(r session.Record, exclude string) placement.Hints {
	return placement.Hints{
		Region: r.Region, Fallback: r.Fallback, Strict: r.Strict, Pool: r.Pool,
		Exclude: exclude, Balance: r.Leaving, Key: cmp.Or(r.Group, r.User),
	}
}

func (b *Broker) pick(h placement.Hints) (target, error) {
	start := time.Now()
	to, err := b.pickLocked(h)
	b.hooks.Picked(resultOf(err), time.Since(start))
	if err != nil {
		return target{}, fmt.Errorf("placing a session in pool %q: %w", h.Pool, err)
	}
	return to, nil
}

func (b *Broker) pickLocked(h placement.Hints) (target, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id, err := b.table.Pick(b.cfg.Now(), h)
	if err != nil {
		return target{}, err
	}
	return target{id: id, url: b.nodes[id].peer.URL, picked: true}, nil
}

// unpick takes back the pick of a target that was not used.
func (b *Broker) unpick(t target) {
	if !t.picked {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.table.Cancel(b.cfg.Now(), t.id)
}

// bindTries bounds how often bind follows a group that others keep moving.
const bindTries = 3

// bind returns the node of the session's group, which is the one picked when
// the group has none, or one that takes no sessions any more, or no session that
// is alive. A node that merely the session's own client cannot reach stays the
// group's.
func (b *Broker) bind(ctx context.Context, r session.Record, picked target, exclude string) (target, error) {
	replace := ""
	for range bindTries {
		group, err := b.store.Group(ctx, r.GroupKey(), r.ID, picked.id, replace, b.cfg.GroupTTL)
		if err != nil {
			return target{}, fmt.Errorf("finding the node of the group: %w", err)
		}
		if group.Node == picked.id {
			return picked, nil
		}
		bound, ok := b.takes(group.Node)
		switch {
		case ok && group.Node == exclude:
			return picked, nil
		case ok && b.inhabited(ctx, r, group):
			return bound, nil
		}
		replace = group.Node
	}
	return picked, nil
}

// inhabited reports whether the group has a session that is alive, beside the
// one that asks. Sessions end without a word when their node dies: those that
// are found to be gone count no longer.
func (b *Broker) inhabited(ctx context.Context, r session.Record, group session.Bound) bool {
	if group.Young {
		return true // it may be about to be opened
	}
	for _, sid := range group.Others {
		_, err := b.store.Get(ctx, sid)
		if !errors.Is(err, session.ErrNotFound) && !errors.Is(err, session.ErrEnded) {
			return true // or it cannot be told
		}
		_ = b.store.Ungroup(ctx, r.GroupKey(), sid) // whoever asks next finds it gone as well
	}
	return len(group.Others) == session.GroupOthers // there are more, for others to look at
}

// leave has a session that was not opened count no longer as one of its group.
func (b *Broker) leave(r session.Record) {
	if key := r.GroupKey(); key != "" {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
		defer cancel()
		_ = b.store.Ungroup(ctx, key, r.ID) // whoever asks next finds it gone as well
	}
}

const leaveTimeout = 200 * time.Millisecond
