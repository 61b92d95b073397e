package broker

import (
	"cmp"
	"context"
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
	to, err := b.pick(placement.Hints{
		Region: r.Region, Pool: r.Pool, Exclude: exclude, Balance: r.Leaving, Key: cmp.Or(r.Group, r.User),
	})
	if err != nil || r.Group == "" {
		return to, err
	}
	bound, err := b.bind(ctx, r, to, exclude)
	if err != nil || bound.id != to.id {
		b.unpick(to)
	}
	return bound, err
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
	id, err := b.policy.Pick(b.cfg.Now(), h)
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
	b.policy.Cancel(b.cfg.Now(), t.id)
}

// bindTries bounds how often bind follows a group that others keep moving.
const bindTries = 3

// bind returns the node of the session's group, which is the one picked when
// the group has none, or one that takes no sessions any more. A node that
// merely the session's own client cannot reach stays the group's.
func (b *Broker) bind(ctx context.Context, r session.Record, picked target, exclude string) (target, error) {
	// A pool is strict, so a group has a node in each. No name holds a newline.
	key := r.Pool + "\n" + r.Group
	replace := ""
	for range bindTries {
		id, err := b.store.Group(ctx, key, picked.id, replace, b.cfg.GroupTTL)
		if err != nil {
			return target{}, fmt.Errorf("finding the node of the group: %w", err)
		}
		if id == picked.id {
			return picked, nil
		}
		if bound, ok := b.takes(id); ok && id != exclude {
			return bound, nil
		} else if ok {
			return picked, nil
		}
		replace = id
	}
	return picked, nil
}
