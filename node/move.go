package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

const (
	// moveTimeout is how long a move may wait for the application and the store.
	// After it the move is given up, or resolveMove finds out its result.
	moveTimeout = 2 * time.Second
	// moveRetry is the time between two requests to a store that has not answered
	// whether a session moved.
	moveRetry = 250 * time.Millisecond
	// connDrainTime is how long the connection of a session that has moved stays
	// open. The client closes it once it has attached to the next node.
	connDrainTime = 10 * time.Second
)

// move hands the session over to another node. It freezes the session and gives it to
// the other node in one atomic step of the store. Until the result is known, neither
// node serves the session; after it, exactly one does.
func (n *Node) move(ctx context.Context, s *Session, epoch uint64, to string) proto.CommandResult {
	if epoch != s.lease.Epoch {
		return proto.CommandResult{Found: true, Error: fmt.Sprintf("the session has epoch %d here, not %d", s.lease.Epoch, epoch)}
	}
	n.departing.Add(1)
	result, err := n.tryMove(ctx, s, to)
	n.departed()
	label := result
	r := proto.CommandResult{Found: true, Result: result}
	if err != nil {
		r.Error, label = err.Error(), "failed"
	}
	n.metrics.moves.WithLabelValues(label).Inc()
	return r
}

func (n *Node) tryMove(ctx context.Context, s *Session, to string) (result string, err error) {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	if s.isHeld() {
		return proto.MoveHeld, nil
	}
	if n.leases.Down() || !s.callbackLock.LockUntil(ctx) {
		return proto.MoveBusy, nil
	}
	unlock := s.unlockCallbacks
	defer func() { unlock() }()
	if s.freeze() != nil {
		return proto.MoveBusy, nil // the session has ended, and the store knows it or soon will
	}
	v, err := s.state()
	if err != nil {
		s.thaw()
		n.log.Warn("session cannot move: no snapshot", "session", s.ID, "user", s.User, "error", err)
		return "", err
	}
	request := session.NewRequest()
	rec, err := n.cfg.Store.Move(ctx, request, v, to)
	if errors.Is(err, session.ErrUnavailable) {
		// The session may have moved. It stays frozen until the result is known.
		unlock = func() {}
		n.wg.Go(func() {
			defer s.unlockCallbacks()
			n.resolveMove(s, request, v, to)
		})
		return proto.MoveBusy, nil
	}
	return n.finishMove(s, rec, err), nil
}

// resolveMove asks the store until it answers whether the session moved, or until the
// node shuts down. Then it asks once more, and without an answer ends the session
// here, because it may belong to another node. The caller holds s.callbackLock, and
// the session is frozen.
func (n *Node) resolveMove(s *Session, request string, v session.Saved, to string) {
	for last := false; !last; {
		select {
		case <-n.stopping:
			last = true
		case <-time.After(moveRetry):
		}
		ctx, cancel := context.WithTimeout(context.Background(), n.cfg.StoreTimeout)
		rec, err := n.cfg.Store.Move(ctx, request, v, to)
		cancel()
		if !errors.Is(err, session.ErrUnavailable) {
			n.finishMove(s, rec, err)
			return
		}
	}
	n.log.Warn("session ends here; the store did not answer whether it moved", "session", s.ID, "user", s.User)
	n.end(s, proto.CloseGoingAway, "", false)
}

// finishMove applies the answer of the store. The caller holds s.callbackLock, and
// the session is frozen.
func (n *Node) finishMove(s *Session, rec session.Record, err error) string {
	if err == nil {
		n.releaseMoved(s, rec.Node)
		return proto.MoveDone
	}
	if how := lossOf(rec, err); how != nil {
		n.end(s, how.code, how.reason, false)
		return proto.MoveDone
	}
	n.leases.Changed(&s.lease) // the store may have lost the record
	s.thaw()
	n.log.Warn("session did not move", "session", s.ID, "user", s.User, "error", err)
	return proto.MoveBusy
}

// releaseMoved ends a session that belongs to another node now. Its connection
// becomes a draining connection: it stays open, and its frames are ignored, until the
// client has attached to the other node and closes it. A client whose welcome or goaway
// was not written does not know that it is attached here, or that it is to leave: its
// connection is closed.
func (n *Node) releaseMoved(s *Session, to string) {
	n.endWith(s, proto.CloseMoved, "", func(c *conn) {
		if c.urgent != nil {
			c.shut(proto.CloseMoved)
			return
		}
		c.stage = connDraining
		c.drainTimer = time.AfterFunc(connDrainTime, c.endDraining)
		n.drainingConns.Store(c, true)
		n.departing.Add(1)
	})
	n.log.Info("moved", "session", s.ID, "user", s.User, "to", to)
}

// endDraining closes a draining connection that the client has not closed.
func (c *conn) endDraining() {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	if _, draining := c.session.node.drainingConns.Load(c); draining {
		c.shut(proto.CloseMoved)
	}
}
