package usher

import (
	"context"
	"errors"
	"time"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// run is the main goroutine of the session. Only it connects, decides what to do
// after a loss, and notifies the application.
func (s *Session) run() {
	defer close(s.done)
	end := s.runSteps()
	s.finish(end)
	s.wg.Wait()
	s.release()
}

// runSteps attaches and asks auth, as retry decides, until the session has ended.
func (s *Session) runSteps() *EndedError {
	next := stepAttach
	if s.at.Node.URL == "" {
		next = stepReconnect
	}
	for {
		var wait time.Duration
		var end *EndedError
		if next == stepAttach && s.expired() {
			next = stepReconnect
		}
		if next == stepAttach {
			wait, next, end = s.attachAndServe()
		} else {
			wait, next, end = s.askAuth()
		}
		if end == nil {
			end = s.pause(wait)
		}
		if end != nil {
			return end
		}
	}
}

// expired reports whether the node would refuse the token because it has expired. A
// token that auth has just issued counts as valid, because the clock may be wrong.
func (s *Session) expired() bool {
	at := s.Assignment().TokenExpiresAt
	return !s.untried && !at.IsZero() && time.Now().After(at)
}

// pause waits before the next attempt. NetworkChanged ends the wait.
func (s *Session) pause(wait time.Duration) *EndedError {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-s.ctx.Done():
		return s.leaveReason()
	case <-s.network:
	case <-t.C:
	}
	return s.leaveReason()
}

// leaveReason returns the end of the session by the application, or nil.
func (s *Session) leaveReason() *EndedError {
	var end *EndedError
	errors.As(context.Cause(s.ctx), &end)
	return end
}

// attachAndServe performs stepAttach. It returns when the connection has ended, with
// the wait and the next step, or with the end of the session.
func (s *Session) attachAndServe() (time.Duration, step, *EndedError) {
	h := s.handshake()
	c, w, l := s.dial(s.ctx, h)
	if l == nil {
		l = s.adopt(c, w, h)
		if l == nil {
			return s.serve(c)
		}
	}
	if end := s.leaveReason(); end != nil {
		return 0, stepStop, end
	}
	s.recordError(&l.CutError)
	return s.failed(l)
}

// failed decides what to do after a failed attempt to attach.
func (s *Session) failed(l *loss) (time.Duration, step, *EndedError) {
	s.failedSinceWelcome = true
	node := s.Assignment().Node.ID
	if l.unopened {
		if !l.refused { // an invalid token is not a fault of the node
			s.unreachable = node
		}
		wait, next := s.retry.unreachable()
		return wait, next, nil
	}
	wait, next := s.retry.failed(time.Now(), l.Code)
	switch {
	case next == stepStop:
		return 0, next, l.ended()
	case next == stepReconnect && s.namedAgain && l.Code.Action() == proto.ActionRetry:
		// Auth has named a node twice at which the client cannot attach, although its
		// port is open. Report the node, otherwise auth would continue to name it.
		s.unreachable = node
	}
	return wait, next, nil
}

// adopt makes c the connection of the session: it applies the welcome, notifies the
// application, and starts c.
func (s *Session) adopt(c *conn, w proto.Welcome, h handshake) *loss {
	reset, l := s.applyWelcome(c, w, h)
	if l != nil {
		c.shut(l)
		return l
	}
	s.retry.welcomed()
	s.failedSinceWelcome, s.namedAgain, s.unreachable = false, false, ""
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

// applyWelcome applies the welcome to the session. If it returns a loss, it has
// changed nothing.
func (s *Session) applyWelcome(c *conn, w proto.Welcome, h handshake) (*Reset, *loss) {
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
	c.out.Begin(s.stream)
	c.lastActivity = time.Now()
	s.sendReady.Broadcast()
	s.readReady.Broadcast()
	return reset, nil
}

// finish ends the session for this client, and notifies the application.
func (s *Session) finish(end *EndedError) {
	s.mu.Lock()
	if s.departure == loggingOut && end.Code == proto.CloseSessionEnded {
		end = &EndedError{Code: end.Code, Reason: end.Reason, Err: ErrLoggedOut} // the close of the node came before the answer of auth
	}
	s.end = end
	left := unconfirmed(s.stream)
	s.stats.Lost += uint64(len(left))
	s.sendReady.Broadcast()
	s.recvReady.Broadcast()
	s.readReady.Broadcast()
	s.mu.Unlock()
	s.enter(StateChange{State: Ended, Err: end, Unconfirmed: left})
}
