package usher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Limits for the poll interval of a login that waits, whatever auth says.
const (
	minPoll = 250 * time.Millisecond
	maxPoll = time.Minute
	// pollTries is the number of requests in a row that may fail temporarily. Auth
	// keeps the position for about as long as they take.
	pollTries = 5
)

// waitInQueue asks for the place of a login that has to wait until it is let in, or ctx
// ends.
func (s *Session) waitInQueue(ctx context.Context, q proto.Queued) (proto.Assignment, error) {
	failures := 0
	for {
		if s.cfg.OnQueue != nil && failures == 0 {
			s.cfg.OnQueue(q)
		}
		pause := min(max(time.Duration(q.PollAfterMS)*time.Millisecond, minPoll), maxPoll)
		if failures > 0 {
			pause = time.Duration((0.5 + s.cfg.Rand()) * float64(time.Second) * float64(failures))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return proto.Assignment{}, fmt.Errorf("usher: login: waiting in the queue, position %d of %d: %w", q.Position, q.Waiting, ctx.Err())
		}
		body, err := s.post(ctx, "/v1/queue", q.Ticket, struct{}{})
		if err != nil {
			if failures++; failures >= pollTries || !isTemporary(err) {
				return proto.Assignment{}, fmt.Errorf("usher: login: waiting in the queue: %w", err)
			}
			continue
		}
		failures = 0
		next, waits := parseQueued(body)
		if !waits {
			return assignment(body)
		}
		q = next
	}
}

// isTemporary reports whether another try may succeed.
func isTemporary(err error) bool {
	var p *proto.Problem
	if !errors.As(err, &p) {
		return true // there was no answer
	}
	return p.Status == 429 || p.Status >= 500
}

// parseQueued parses the answer of auth to a login that has to wait. It returns
// false if the answer is another one.
func parseQueued(body []byte) (proto.Queued, bool) {
	var q proto.Queued
	err := json.Unmarshal(body, &q)
	return q, err == nil && q.Ticket != ""
}
