package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

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
	defer cancel()
	go func() {
		select {
		case <-failed:
			cancel()
		case <-ctx.Done():
		}
	}()
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
