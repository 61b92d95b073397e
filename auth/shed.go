package auth

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/usher-broker/usher/proto"
)

// shedder limits the requests that are handled at the same time: when a node dies, all
// its clients reconnect at once. A limited number of requests waits for a short time. The
// others are refused early, when that is still cheap, with a random Retry-After that grows
// with the length of the queue.
type shedder struct {
	slots chan struct{} // one element for each request that is handled
	queue chan struct{} // one element for each request that waits
	wait  time.Duration
}

func newShedder(atOnce int, wait time.Duration) *shedder {
	return &shedder{
		slots: make(chan struct{}, atOnce),
		queue: make(chan struct{}, 4*atOnce), wait: wait,
	}
}

// enter reports whether the request may be handled. If so, the caller calls leave at the
// end.
func (s *shedder) enter(ctx context.Context) bool {
	select {
	case s.slots <- struct{}{}:
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
	case s.slots <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (s *shedder) leave() { <-s.slots }

// problem returns the answer to a refused request. Its Retry-After is 1 to 10 s if the
// queue is full, and less if it is not.
func (s *shedder) problem() *proto.Problem {
	most := 2 + 8*len(s.queue)/cap(s.queue)
	return &proto.Problem{
		Status: http.StatusServiceUnavailable, Code: proto.ProblemOverloaded, RetryAfter: 1 + rand.IntN(most),
		Detail: "Very many clients reconnect at this moment. Try again; the session is kept meanwhile.",
	}
}
