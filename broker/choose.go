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

// target is a node that a session may be assigned to.
type target struct {
	id, url string
	picked  bool // the placement counts a session as pending at the node
}

// choose returns the node for a session: the node of the session's group,
// otherwise the one that the placement picks. If the session is not assigned to
// the returned target, the caller must pass it to unpick.
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

// unpick cancels the pick of a target that is not used. It does nothing if the
// placement did not pick the target.
func (b *Broker) unpick(t target) {
	if !t.picked {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.table.Cancel(b.cfg.Now(), t.id)
}

// bindTries bounds how often bind retries when other requests keep moving the
// group.
const bindTries = 3

// bind returns the node of the session's group. It binds the group to the picked
// node if the group has no node, if its node takes no more sessions, or if the
// group has no other live session. If the group's node is only unreachable for
// this client (exclude), the group stays bound to it and bind returns the picked
// node.
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
		bound, ok := b.accepting(group.Node)
		switch {
		case ok && group.Node == exclude:
			return picked, nil
		case ok && b.groupAlive(ctx, r, group):
			return bound, nil
		}
		replace = group.Node
	}
	return picked, nil
}

// groupAlive reports whether the group has a live session besides r. Sessions of a
// dead node expire without being ended; groupAlive removes those that it finds
// gone from the group.
func (b *Broker) groupAlive(ctx context.Context, r session.Record, group session.Bound) bool {
	if group.Young {
		return true // a session that joined just now may not be created yet
	}
	for _, sid := range group.Others {
		_, err := b.store.Get(ctx, sid)
		if !errors.Is(err, session.ErrNotFound) && !errors.Is(err, session.ErrEnded) {
			return true // alive, or the store does not say
		}
		_ = b.store.Ungroup(ctx, r.GroupKey(), sid) // after an error the next request removes it
	}
	return len(group.Others) == session.GroupOthers // the group may have more sessions than the store returned
}

// leaveGroup removes a session that was not opened from its group.
func (b *Broker) leaveGroup(r session.Record) {
	if key := r.GroupKey(); key != "" {
		ctx, cancel := context.WithTimeout(context.Background(), leaveGroupTimeout)
		defer cancel()
		_ = b.store.Ungroup(ctx, key, r.ID) // after an error the next request removes it
	}
}

const leaveGroupTimeout = 200 * time.Millisecond
