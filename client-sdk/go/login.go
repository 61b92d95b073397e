package usher

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/usher-broker/usher/proto"
)

// login logs in at auth and returns the assignment. It waits in the queue if every
// node is full.
func (s *Session) login(ctx context.Context) (proto.Assignment, error) {
	method, credentials, err := s.cfg.Credentials(ctx)
	if err != nil {
		return proto.Assignment{}, fmt.Errorf("usher: credentials: %w", err)
	}
	raw, err := json.Marshal(credentials)
	if err != nil {
		return proto.Assignment{}, fmt.Errorf("usher: credentials: %w", err)
	}
	body, err := s.post(ctx, "/v1/login", "", proto.LoginRequest{
		Method: method, Credentials: raw, Placement: s.cfg.Placement, Confirm: s.prover.loginKey(),
	})
	if err != nil {
		return proto.Assignment{}, fmt.Errorf("usher: login: %w", err)
	}
	if q, waits := parseQueued(body); waits {
		return s.waitInQueue(ctx, q)
	}
	return assignment(body)
}
