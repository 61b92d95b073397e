package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// handOverTimeout bounds the wait for a node that is asked to hand a session
// over. It is longer than what a move may take there (node.moveTimeout) and than
// an answer that is lost and asked for again: a node that lives says in that time
// at least that it is busy, and its sessions do not lose their streams. For one
// that stands still nobody waits so long: the probe of it fails before. By then
// it has stood still for longer than node.stallLimit, and asks the store whether
// a session is still its own before it serves it again: it is safe to take.
const handOverTimeout = 2500 * time.Millisecond

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
	status := statusOf(result, err)
	b.orders.note(r.Node, proto.Command{Op: proto.OpMove, Session: r.ID}, status, err)
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
