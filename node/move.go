package node

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

const (
	// moveTimeout bounds what a move may take of the application and of the
	// store before it is given up, or its outcome found out.
	moveTimeout = 2 * time.Second
	// moveRetry is the time between two questions to a store that has not said
	// whether a session moved.
	moveRetry = 250 * time.Millisecond
	// lingerTime is how long the connection of a session that has moved stays
	// open, silent, for the client to come to the next node and close it.
	lingerTime = 10 * time.Second
)

// move hands the session to another node: it freezes it, and gives it away
// whole in one step of the store. Until that is decided the session is
// neither here nor there; when it is, it is on one side alone.
func (n *Node) move(ctx context.Context, s *Session, epoch uint64, to string) proto.CommandResult {
	if epoch != s.epoch {
		return proto.CommandResult{Found: true, Error: "the session has another epoch here"}
	}
	result, err := n.tryMove(ctx, s, to)
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
	if n.ledger.isDown() || !s.app.LockUntil(ctx) {
		return proto.MoveBusy, nil
	}
	unlock := s.app.Unlock
	defer func() { unlock() }()
	if !s.freeze() {
		return proto.MoveBusy, nil // it is over, which the store knows or will know
	}
	v, err := s.state()
	if err != nil {
		s.thaw()
		n.log.Warn("session cannot move", "session", s.ID, "user", s.User, "error", err)
		return "", err
	}
	request := session.NewRequest()
	rec, err := n.cfg.Store.Move(ctx, request, v, to)
	if errors.Is(err, session.ErrUnavailable) {
		// It may have moved. The session waits, alone, until that is known.
		unlock = func() {}
		n.goes.Go(func() {
			defer s.app.Unlock()
			n.findOut(s, request, v, to)
		})
		return proto.MoveBusy, nil
	}
	return n.settle(s, rec, err), nil
}

// findOut asks the store until it says whether the session moved, or the node is
// shut down: then once more, and a session of which nothing is known ends here, for
// it may be another node's. s.app is held, and the session frozen.
func (n *Node) findOut(s *Session, request string, v session.Saved, to string) {
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
			n.settle(s, rec, err)
			return
		}
	}
	n.log.Warn("session leaves, and the store has not said whether it moved", "session", s.ID, "user", s.User)
	n.end(s, proto.CloseGoingAway, "", false)
}

// settle does what the store has decided. s.app is held, and the session
// frozen.
func (n *Node) settle(s *Session, rec session.Record, err error) string {
	switch {
	case err == nil:
		n.leave(s, rec.Node)
		return proto.MoveDone
	case errors.Is(err, session.ErrMoved):
		n.end(s, proto.CloseMoved, "", false)
		return proto.MoveDone
	case errors.Is(err, session.ErrEnded):
		n.end(s, cmp.Or(rec.Reason, proto.CloseSessionEnded), rec.CloseReason, false)
		return proto.MoveDone
	}
	s.mu.Lock()
	s.renewAt = time.Time{} // the store may have lost the record
	s.mu.Unlock()
	s.thaw()
	n.log.Warn("session did not move", "session", s.ID, "user", s.User, "error", err)
	return proto.MoveBusy
}

// leave lets go of a session that is another node's now. Its connection stays
// open, and is not listened to, until the client has come there and closes it.
func (n *Node) leave(s *Session, to string) {
	n.forget(s, proto.CloseMoved, "", func(c *conn) {
		c.mute = true
		c.lingers = time.AfterFunc(lingerTime, c.linger)
		n.lingering.Store(c, true)
	})
	n.log.Info("moved", "session", s.ID, "user", s.User, "to", to)
}

// linger closes a connection that is still open long after its session has
// left.
func (c *conn) linger() {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	c.shut(proto.CloseMoved)
}
