package usher

import (
	"context"
	"errors"
	"time"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// run is the session's main goroutine. It alone connects, decides what comes
// after a loss, and tells the application of it.
func (s *Session) run() {
	defer close(s.done)
	end := s.follow()
	s.finish(end)
	s.goes.Wait()
	s.release()
}

// follow goes from door to door until the session is over.
func (s *Session) follow() *EndedError {
	next := doorAttach
	if s.at.Node.URL == "" {
		next = doorReconnect
	}
	for {
		var wait time.Duration
		var end *EndedError
		if next == doorAttach && s.expired() {
			next = doorReconnect
		}
		if next == doorAttach {
			wait, next, end = s.goAttach()
		} else {
			wait, next, end = s.goReconnect()
		}
		if end == nil {
			end = s.pause(wait)
		}
		if end != nil {
			return end
		}
	}
}

// expired reports whether the node would refuse the token. One that auth has
// just given is tried whatever the clock says: the clock may be wrong.
func (s *Session) expired() bool {
	at := s.Assignment().TokenExpiresAt
	return !s.fresh && !at.IsZero() && time.Now().After(at)
}

// pause waits before the next attempt.
func (s *Session) pause(wait time.Duration) *EndedError {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-s.ctx.Done():
		return s.left()
	case <-s.network:
	case <-t.C:
	}
	return s.left()
}

// left returns how the application has left the session, nil if it has not.
func (s *Session) left() *EndedError {
	var end *EndedError
	errors.As(context.Cause(s.ctx), &end)
	return end
}

// goAttach is the door of that name. It returns when the connection has ended.
func (s *Session) goAttach() (time.Duration, door, *EndedError) {
	h := s.handshake()
	c, w, l := s.dial(s.ctx, h)
	if l == nil {
		l = s.carry(c, w, h)
		if l == nil {
			return s.serve(c)
		}
	}
	if end := s.left(); end != nil {
		return 0, doorStop, end
	}
	s.note(&l.CutError)
	return s.failed(l)
}

// failed decides what comes after an attempt that led nowhere.
func (s *Session) failed(l *loss) (time.Duration, door, *EndedError) {
	s.barren = true
	node := s.Assignment().Node.ID
	if l.unopened {
		if !l.refused { // what is wrong with a token is not the node's fault
			s.unreachable = node
		}
		wait, next := s.retry.unreachable()
		return wait, next, nil
	}
	wait, next := s.retry.failed(time.Now(), l.Code)
	switch {
	case next == doorStop:
		return 0, next, l.ended()
	case next == doorReconnect && s.again && l.Code.Action() == proto.ActionRetry:
		// Auth has named a node twice at which nobody can attach. It opens its
		// port, but that is all: name it, or auth will go on naming it.
		s.unreachable = node
	}
	return wait, next, nil
}

// carry makes c the session's connection: it settles with the node what each
// side has, and tells the application.
func (s *Session) carry(c *conn, w proto.Welcome, h handshake) *loss {
	reset, l := s.settle(c, w, h)
	if l != nil {
		c.shut(l)
		return l
	}
	s.retry.welcomed()
	s.barren, s.again, s.unreachable = false, false, ""
	c.since = time.Now()
	s.cfg.Logger.Info("attached", "node", w.Node, "attempt", h.attempt, "resumed", w.Resumed, "reason", w.Reason)
	if reset != nil && s.cfg.OnReset != nil {
		s.cfg.OnReset(*reset)
	}
	s.enter(StateChange{State: Attached})
	select {
	case <-s.attached:
	default:
		close(s.attached)
	}
	c.start()
	return nil
}

// settle takes in the welcome. Nothing has changed if it returns a loss.
func (s *Session) settle(c *conn, w proto.Welcome, h handshake) (*Reset, *loss) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limits := stream.Limits{Messages: w.MaxUnackedMessages, Bytes: w.MaxUnackedBytes}
	var reset *Reset
	if w.Resumed {
		if err := s.stream.Ack(w.Received); err != nil {
			return nil, violation(proto.CloseProtocolError, "welcome: %w", err)
		}
		s.stream.Resumed()
		s.stream.Limits = limits
		s.stats.Resumes++
	} else {
		if h.stream != "" {
			reset = &Reset{Session: s, Reason: w.Reason, Unconfirmed: unconfirmed(s.stream), Received: s.stream.Received()}
			if reset.Reason == "" {
				reset.Reason = proto.ResetUnknown
			}
			s.stats.Resets++
			s.stats.Lost += uint64(len(reset.Unconfirmed))
		}
		s.stream, s.name = &stream.Stream{Limits: limits}, w.Stream
	}
	s.conn, s.bounds = c, w
	s.at.Session = w.Session
	if !w.TokenExpiresAt.IsZero() {
		s.at.TokenExpiresAt = w.TokenExpiresAt
	}
	c.next = s.stream.Acked() + 1
	c.heard = time.Now()
	s.room.Broadcast()
	s.space.Broadcast()
	return reset, nil
}

// finish ends the session for this client, and tells the application.
func (s *Session) finish(end *EndedError) {
	s.mu.Lock()
	if s.loggingOut && end.Code == proto.CloseSessionEnded {
		end = &EndedError{Code: end.Code, Reason: end.Reason, Err: ErrLoggedOut} // the node was faster than auth
	}
	s.end = end
	left := unconfirmed(s.stream)
	s.stats.Lost += uint64(len(left))
	s.room.Broadcast()
	s.arrived.Broadcast()
	s.space.Broadcast()
	s.mu.Unlock()
	s.enter(StateChange{State: Ended, Err: end, Unconfirmed: left})
}
