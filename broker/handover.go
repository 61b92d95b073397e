package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// handOverTimeout bounds the wait for a node that is asked to hand a session
// over. A node that stood still for less than that has asked the store whether
// the session is still its own before it serves it again (node.stallLimit):
// it is safe to take the session then.
const handOverTimeout = 550 * time.Millisecond

// handOver has the owner of a session give it to another node, with its stream.
// It reports whether that happened, or why the session stays; neither means
// that the owner has nothing to give, or does not answer and its client cannot
// reach it: then the session may be taken. failed is closed when the owner is
// found to be gone.
func (b *Broker) handOver(ctx context.Context, r session.Record, to target, reason Reason, failed <-chan struct{}) (stays Reason, handed bool) {
	if !b.answers(r.Node) {
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
	fate := fateOf(result, err)
	b.orders.note(r.Node, proto.Command{Op: proto.OpMove, Session: r.ID}, fate, err)
	switch {
	case fate == NotHeld:
		return "", false
	case fate == Unanswered && reason == Unreachable:
		return "", false
	case result.Result == proto.MoveDone:
		return "", true
	case result.Result == proto.MoveHeld:
		return Held, false
	}
	return Busy, false // the client asks again
}

// handed answers for a session that its owner says has moved: the store says
// where.
func (b *Broker) handed(ctx context.Context, r session.Record, to target, reason Reason) (place, Reason, error) {
	now, err := b.store.Get(ctx, r.ID)
	if err != nil || now.Node != to.id {
		b.unpick(to)
	}
	switch {
	case err != nil:
		return place{}, "", fmt.Errorf("finding the session: %w", err)
	case now.Node != to.id:
		return b.follow(now)
	}
	b.log.Info("session moved", "session", r.ID, "user", r.User, "from", r.Node, "to", now.Node, "epoch", now.Epoch, "reason", string(reason), "whole", true)
	return place{now, to}, reason, nil
}
