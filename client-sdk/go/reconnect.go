package usher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/usher-broker/usher/proto"
)

// reconnect asks auth which node serves the session.
func (s *Session) reconnect(ctx context.Context, unreachable string) (proto.Assignment, error) {
	was := s.Assignment()
	body, err := s.post(ctx, "/v1/reconnect", was.Token, proto.ReconnectRequest{Unreachable: unreachable})
	if err != nil {
		return proto.Assignment{}, fmt.Errorf("usher: reconnect: %w", err)
	}
	a, err := assignment(body)
	if err == nil && was.Session != "" && a.Session != was.Session {
		err = errors.New("usher: reconnect: auth answered for another session")
	}
	return a, err
}

// setAssignment sets the node and the token that auth has named.
func (s *Session) setAssignment(a proto.Assignment) {
	s.mu.Lock()
	s.namedAgain = s.failedSinceWelcome && a.Node.ID == s.at.Node.ID
	s.at = a
	s.mu.Unlock()
	s.untried = true
	s.unreachable = ""
	s.cfg.Logger.Info("auth named a node", "node", a.Node.ID)
}

// askAuth performs stepReconnect. It returns the wait and the next step, or the end
// of the session.
func (s *Session) askAuth() (time.Duration, step, *EndedError) {
	a, err := s.reconnect(s.ctx, s.unreachable)
	if err == nil {
		s.retry.named(time.Now())
		s.setAssignment(a)
		return 0, stepAttach, nil
	}
	s.recordError(err)
	if end := refusal(err); end != nil {
		return 0, stepStop, end
	}
	var p *proto.Problem
	if !errors.As(err, &p) {
		// The cause that kept this request from auth may also have kept the attempt
		// before from the node. A client that is off the network must not make a
		// healthy node lose sessions: it asks without naming the node.
		s.unreachable = ""
	}
	wait, next := s.retry.unanswered(hint(err))
	return wait, next, nil
}

// refusal returns the end of the session if an answer of auth says that the session
// is over or that this client has a bug. It returns nil if another try may succeed.
func refusal(err error) *EndedError {
	var p *proto.Problem
	switch {
	case !errors.As(err, &p) || p.Status < 400 || p.Status > 499 || p.Status == http.StatusTooManyRequests,
		p.Code == proto.ProblemStaleProof:
		return nil
	case p.Status == http.StatusUnauthorized || p.Status == http.StatusGone:
		return &EndedError{Code: proto.CloseSessionEnded, Reason: p.Code, Err: p}
	}
	return &EndedError{Err: err}
}

// hint returns the time that auth asks to wait.
func hint(err error) time.Duration {
	var p *proto.Problem
	if errors.As(err, &p) {
		return time.Duration(p.RetryAfter) * time.Second
	}
	return 0
}
