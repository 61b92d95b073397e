package usher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Bounds of the time until a login that waits asks again, whatever it is told.
const (
	minPoll = 250 * time.Millisecond
	maxPoll = time.Minute
	// pollTries is how often in a row auth may fail to answer, or refuse for the
	// moment: the place is kept about as long.
	pollTries = 5
)

// waitTurn asks for the place of a login that has to wait until it is let in, or ctx
// ends.
func (s *Session) waitTurn(ctx context.Context, q proto.Queued) (proto.Assignment, error) {
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
			return proto.Assignment{}, fmt.Errorf("usher: login: waiting for room, at place %d of %d: %w", q.Position, q.Waiting, ctx.Err())
		}
		body, err := s.post(ctx, "/v1/queue", q.Ticket, struct{}{})
		if err != nil {
			if failures++; failures >= pollTries || !forNow(err) {
				return proto.Assignment{}, fmt.Errorf("usher: login: waiting for room: %w", err)
			}
			continue
		}
		failures = 0
		next, waits := queuedIn(body)
		if !waits {
			return assignment(body)
		}
		q = next
	}
}

// forNow reports whether another try may go better.
func forNow(err error) bool {
	var p *proto.Problem
	if !errors.As(err, &p) {
		return true // there was no answer
	}
	return p.Status == 429 || p.Status >= 500
}

// queuedIn returns what an answer of auth says if it is that of a login that has
// to wait.
func queuedIn(body []byte) (proto.Queued, bool) {
	var q proto.Queued
	err := json.Unmarshal(body, &q)
	return q, err == nil && q.Ticket != ""
}
