package usher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/usher-broker/usher/proto"
)

// flushWait bounds the wait for the node's confirmations.
const flushWait = 5 * time.Second

// Close leaves the session without ending it: the node keeps it for the resume
// window, then ends it. Nothing more can be sent. While it is attached, Close
// waits up to 5 s, and no longer than ctx, until the node has confirmed what
// was sent; the error wraps ErrUnconfirmed if it has not. When Close returns,
// all goroutines of the session have ended, unless ctx ended before.
func (s *Session) Close(ctx context.Context) error {
	err := s.flush(ctx, false)
	s.leave(&EndedError{Err: ErrClosed})
	return errors.Join(err, s.wait(ctx))
}

// Logout ends the session everywhere, and then does what Close does. If auth
// cannot be asked, the error says why, and the session goes on as before; Logout may
// be called again, or Close.
func (s *Session) Logout(ctx context.Context) error {
	err := s.flush(ctx, true)
	if _, postErr := s.post(ctx, "/v1/logout", s.Token(), struct{}{}); postErr != nil && !s.loggedOut() {
		s.stay()
		return errors.Join(err, fmt.Errorf("usher: logout: %w", postErr))
	}
	s.leave(&EndedError{Code: proto.CloseSessionEnded, Err: ErrLoggedOut})
	return errors.Join(err, s.wait(ctx))
}

// loggedOut reports whether the node has ended the session because of the
// logout. It may do so before the answer of auth has come, and then the
// session, as it ends, lets go of the connection that the answer comes on.
func (s *Session) loggedOut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end != nil && errors.Is(s.end, ErrLoggedOut)
}

// stay takes back that the application leaves.
func (s *Session) stay() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving, s.loggingOut = false, false
}

// wait waits until the session has ended.
func (s *Session) wait(ctx context.Context) error {
	select {
	case <-s.done: // also if ctx has ended as well
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

// flush takes no more messages and waits for those that are under way.
func (s *Session) flush(ctx context.Context, logout bool) error {
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	defer s.wakeAtEnd(ctx, &s.room)()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving, s.loggingOut = true, logout
	s.room.Broadcast()
	if s.end != nil || s.stream == nil {
		return nil
	}
	s.handled()
	s.acknowledge(0)
	for s.end == nil && s.conn != nil && ctx.Err() == nil && s.unflushed() {
		s.room.Wait()
	}
	if left := len(s.stream.Unacked()); left > 0 && s.end == nil {
		return fmt.Errorf("%w: %d", ErrUnconfirmed, left)
	}
	return nil
}

// unflushed reports whether something is still on its way. s.mu is held.
func (s *Session) unflushed() bool {
	owed, _ := s.stream.AckDue()
	return owed || len(s.stream.Unacked()) > 0
}
