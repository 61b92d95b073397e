package usher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/usher-broker/usher/proto"
)

// reconnect asks auth where the session is to attach.
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

// named takes in auth's answer to where the session is.
func (s *Session) named(a proto.Assignment) {
	s.mu.Lock()
	s.again = s.barren && a.Node.ID == s.at.Node.ID
	s.at = a
	s.mu.Unlock()
	s.fresh = true
	s.unreachable = ""
	s.cfg.Logger.Info("auth named a node", "node", a.Node.ID)
}

// goReconnect is the door of that name.
func (s *Session) goReconnect() (time.Duration, door, *EndedError) {
	a, err := s.reconnect(s.ctx, s.unreachable)
	if err == nil {
		s.retry.named(time.Now())
		s.named(a)
		return 0, doorAttach, nil
	}
	s.note(err)
	if end := refusal(err); end != nil {
		return 0, doorStop, end
	}
	var p *proto.Problem
	if !errors.As(err, &p) {
		// Whatever kept this request from auth may have kept the one before
		// from the node. A node that is well must not lose its sessions to a
		// client that was off the network: it asks without the claim.
		s.unreachable = ""
	}
	wait, next := s.retry.unanswered(hint(err))
	return wait, next, nil
}

// refusal returns how the session ends when an answer of auth says that it is
// over, or that this client has a bug; nil when it is worth trying again.
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

// hint is how long auth asks to wait.
func hint(err error) time.Duration {
	var p *proto.Problem
	if errors.As(err, &p) {
		return time.Duration(p.RetryAfter) * time.Second
	}
	return 0
}
