package auth

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/usher-broker/usher/proto"
)

// shedder bounds the requests that are worked on at once: when a node dies, all
// its clients ask at the same time. A few wait for their turn, as many as get it
// soon; the others are told to come back, spread over a time that grows with the
// crowd, while an answer costs little.
type shedder struct {
	turns chan struct{}
	queue chan struct{}
	wait  time.Duration
}

func newShedder(atOnce int, wait time.Duration) *shedder {
	return &shedder{
		turns: make(chan struct{}, atOnce),
		queue: make(chan struct{}, 4*atOnce), wait: wait,
	}
}

// enter reports whether the request may go on; then leave is to be called.
func (s *shedder) enter(ctx context.Context) bool {
	select {
	case s.turns <- struct{}{}:
		return true
	default:
	}
	select {
	case s.queue <- struct{}{}:
		defer func() { <-s.queue }()
	default:
		return false
	}
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	select {
	case s.turns <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (s *shedder) leave() { <-s.turns }

// problem tells a client to come back: in 1 to 10 s when the queue is full, sooner
// when it is not.
func (s *shedder) problem() *proto.Problem {
	most := 2 + 8*len(s.queue)/cap(s.queue)
	return &proto.Problem{
		Status: http.StatusServiceUnavailable, Code: proto.ProblemOverloaded, RetryAfter: 1 + rand.IntN(most),
		Detail: "Very many clients ask where to go at this moment. Try again; the session is kept meanwhile.",
	}
}
