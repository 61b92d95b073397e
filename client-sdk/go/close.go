package usher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/usher-broker/usher/proto"
)

// flushWait limits the wait for the confirmations of the node.
const flushWait = 5 * time.Second

// departure says whether the application ends the session, and how.
type departure uint8

const (
	staying    departure = iota
	closing              // by Close
	loggingOut           // by Logout
)

// Close closes the connection without ending the session in the cluster: the node
// keeps the session for the resume window, then ends it. Nothing more can be sent.
// If the session is attached, Close waits until the node has confirmed all sent
// messages, at most 5 s and not longer than ctx. If some are still unconfirmed, the
// error wraps ErrUnconfirmed. When Close returns, all goroutines of the session have
// ended, unless ctx ended before.
func (s *Session) Close(ctx context.Context) error {
	err := s.flush(ctx, closing)
	s.leave(&EndedError{Err: ErrClosed})
	return errors.Join(err, s.wait(ctx))
}

// Logout ends the session everywhere, and then does the same as Close. If the
// request to auth fails, Logout returns the error and the session continues as
// before; the application may call Logout or Close again.
func (s *Session) Logout(ctx context.Context) error {
	err := s.flush(ctx, loggingOut)
	if _, postErr := s.post(ctx, "/v1/logout", s.Token(), struct{}{}); postErr != nil && !s.loggedOut() {
		s.cancelLeave()
		return errors.Join(err, fmt.Errorf("usher: logout: %w", postErr))
	}
	s.leave(&EndedError{Code: proto.CloseSessionEnded, Err: ErrLoggedOut})
	return errors.Join(err, s.wait(ctx))
}

// loggedOut reports whether the node has ended the session because of the logout.
// That may happen before the answer of auth arrives. The end of the session then
// closes the connection on which the answer would arrive.
func (s *Session) loggedOut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end != nil && errors.Is(s.end, ErrLoggedOut)
}

// cancelLeave allows the application to send again.
func (s *Session) cancelLeave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.departure = staying
}

// wait waits until the session has ended.
func (s *Session) wait(ctx context.Context) error {
	select {
	case <-s.done: // takes precedence if ctx has ended too
		return nil
	default:
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("usher: close: %w", ctx.Err())
	}
}

// flush refuses further messages, and waits until the node has confirmed the
// messages that were sent.
func (s *Session) flush(ctx context.Context, how departure) error {
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.departure = how
	s.sendReady.Broadcast()
	if s.end != nil || s.stream == nil {
		return nil
	}
	defer s.wakeAtEnd(ctx, &s.sendReady)()
	s.handled()
	if s.conn != nil {
		s.conn.acknowledgeNow()
	}
	for s.end == nil && s.conn != nil && ctx.Err() == nil && s.unflushed() {
		s.sendReady.Wait()
	}
	if left := len(s.stream.Unacked()); left > 0 && s.end == nil {
		return fmt.Errorf("%w: %d", ErrUnconfirmed, left)
	}
	return nil
}

// unflushed reports whether an acknowledgement is pending or a message is
// unconfirmed. s.mu is held.
func (s *Session) unflushed() bool {
	pending, _ := s.stream.AckDue()
	return pending || len(s.stream.Unacked()) > 0
}
