package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Reassign returns the node that the client of a session attaches to now. That is
// the node that has the session, while it may keep it. Otherwise it is another
// node, and the session has moved there. The claims must be authentic; they may
// have expired. unreachable is the id of the node that the client could not
// attach to, or "".
//
// If several requests for one session run at once, one of them moves it and all
// of them return the same node. The errors are those of Assign, and
// session.ErrNotFound and session.ErrEnded.
func (b *Broker) Reassign(ctx context.Context, c proto.Claims, unreachable string) (proto.Assignment, error) {
	at, reason, err := b.reassign(ctx, c, unreachable)
	var a proto.Assignment
	if err == nil {
		a, err = b.assignment(at, c.Confirm)
	}
	if err != nil {
		reason = ""
	}
	b.hooks.Reassigned(resultOf(err), reason)
	return a, err
}

func (b *Broker) reassign(ctx context.Context, c proto.Claims, unreachable string) (location, Reason, error) {
	if b.cfg.Signer == nil {
		return location{}, "", ErrNoSigner
	}
	r, err := b.store.Get(ctx, c.Session)
	if err == nil && r.User != c.User { // no token that was signed here says that
		err = session.ErrNotFound
	}
	if err != nil {
		return location{}, "", fmt.Errorf("finding the session: %w", err)
	}
	owner, reason := b.judge(r, unreachable)
	if reason == Stayed {
		return location{r, owner}, Stayed, nil
	}
	var failed <-chan struct{}
	if reason == Unreachable {
		failed = b.clientReport(owner, r.User)
	}
	exclude := unreachable
	if reason == Rebalance {
		exclude = owner.id
	}
	to, err := b.choose(ctx, r, exclude)
	if noCapacity(err) && owner.id != "" && !(reason == Draining && r.State == session.Assigned) {
		return location{r, owner}, OnlyOne, nil // a draining node keeps the sessions that no other node can take
	}
	if noCapacity(err) && unreachable != "" { // the client may be able to reach that node by now
		to, err = b.choose(ctx, r, "")
	}
	if err != nil {
		return location{}, "", err
	}
	if to.id == r.Node { // it rejoined or became ready again after judge looked at it
		b.unpick(to)
		return location{r, to}, Stayed, nil
	}
	switch stays, handed := b.handOver(ctx, r, to, reason, failed); {
	case stays != "":
		b.unpick(to)
		return location{r, owner}, stays, nil
	case handed:
		return b.handed(ctx, r, to, reason)
	}
	return b.takeSession(ctx, r, to, reason)
}

// judge decides whether a session stays at its node, and otherwise returns why
// not. The target is the node as long as it is a member.
func (b *Broker) judge(r session.Record, unreachable string) (target, Reason) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.node(r.Node)
	if n == nil {
		return target{}, Gone
	}
	to := targetOf(n)
	switch state := n.State(); {
	case r.Node == unreachable:
		return to, Unreachable
	case state == proto.StateDraining:
		return to, Draining
	case state == proto.StateFull && r.State == session.Assigned:
		// A full node accepts a session that has attached there before, and has
		// its stream.
		return to, Full
	case r.Leaving:
		return to, Rebalance
	}
	return to, Stayed
}

// takeSession moves the session to another node without asking its owner. If
// another request has moved the session since r was read, or its client has
// attached at the owner after all, takeSession returns where the session is.
func (b *Broker) takeSession(ctx context.Context, r session.Record, to target, reason Reason) (location, Reason, error) {
	now, err := b.store.Reassign(ctx, session.NewRequest(), r, to.id, b.cfg.AssignTTL)
	if err != nil {
		b.unpick(to)
		if !errors.Is(err, session.ErrMoved) {
			return location{}, "", fmt.Errorf("moving the session: %w", err)
		}
		return b.follow(now)
	}
	b.log.Info("session moved", "session", r.ID, "user", r.User, "from", r.Node, "to", now.Node, "epoch", now.Epoch, "reason", string(reason))
	b.notify(r.Node, proto.Command{Op: proto.OpMoved, Session: r.ID, Epoch: now.Epoch})
	return location{now, to}, reason, nil
}

// follow returns the location of a session that another request has moved or kept.
func (b *Broker) follow(now session.Record) (location, Reason, error) {
	winner, ok := b.find(now.Node)
	if !ok { // another broker placed it at a node that gossip has not announced here yet
		return location{}, "", fmt.Errorf("the session moved to node %q, whose address is not known here yet: %w", now.Node, placement.ErrNoNodes)
	}
	return location{now, winner}, Followed, nil
}

func noCapacity(err error) bool {
	return errors.Is(err, placement.ErrNoCapacity) || errors.Is(err, placement.ErrNoNodes)
}

// handOverTimeout bounds the wait for a node that is asked to hand over a
// session. It is longer than a move takes there at most (node.moveTimeout), plus
// the time for one lost answer to be repeated. A live node answers within it, at
// least with "busy", so its sessions keep their streams. For a node that is
// stopped the wait is usually shorter, because the probe of it fails first. By
// then the node has not run for longer than node.stallLimit, so it asks the store
// who owns a session before it serves it again, and taking the session is safe.
const handOverTimeout = 2500 * time.Millisecond

// handOver asks the owner of a session to move it, with its stream, to another
// node. It returns handed if the owner has done so, or in stays the reason for
// which the session stays. If it returns neither, the session may be taken: the
// owner does not hold it, or the owner does not answer and its client cannot
// reach it. failed is closed when a probe finds the owner gone.
func (b *Broker) handOver(ctx context.Context, r session.Record, to target, reason Reason, failed <-chan struct{}) (stays Reason, handed bool) {
	if !b.alive(r.Node) {
		return "", false
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		select {
		case <-failed:
			cancel()
		case <-ctx.Done():
		}
	})
	result, err := b.cfg.Cluster.Call(ctx, r.Node, proto.Command{Op: proto.OpMove, Session: r.ID, Epoch: r.Epoch, To: to.id})
	status := statusOf(result, err)
	b.commands.note(r.Node, proto.Command{Op: proto.OpMove, Session: r.ID}, status, err)
	switch {
	case status == NotHeld:
		return "", false
	case status == Unanswered && reason == Unreachable:
		return "", false
	case result.Result == proto.MoveDone:
		return "", true
	case result.Result == proto.MoveHeld:
		return Held, false
	}
	return Busy, false // the client will ask again
}

// handed returns the location of a session that its owner says it has moved. It
// reads it from the store.
func (b *Broker) handed(ctx context.Context, r session.Record, to target, reason Reason) (location, Reason, error) {
	now, err := b.store.Get(ctx, r.ID)
	if err != nil || now.Node != to.id {
		b.unpick(to)
	}
	switch {
	case err != nil:
		return location{}, "", fmt.Errorf("finding the session: %w", err)
	case now.Node != to.id:
		return b.follow(now)
	}
	b.log.Info("session moved", "session", r.ID, "user", r.User, "from", r.Node, "to", now.Node, "epoch", now.Epoch, "reason", string(reason), "with_stream", true)
	return location{now, to}, reason, nil
}
