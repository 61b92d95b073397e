package console

import (
	"net/http"
	"sync"

	"golang.org/x/time/rate"

	"github.com/usher-broker/usher/proto"
)

// limiter limits the requests of each caller, so that a backend in a loop does not slow
// down the broker and other callers.
type limiter struct {
	perSecond rate.Limit

	mu sync.Mutex
	by map[caller]*rate.Limiter // at most maxCallers
}

// maxCallers is the most callers with a limiter. If there are more, because keys were
// replaced often, all limiters start again.
const maxCallers = 10_000

func (l *limiter) allow(c caller) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.by[c]
	if one == nil {
		if l.by == nil || len(l.by) >= maxCallers {
			l.by = map[caller]*rate.Limiter{}
		}
		one = rate.NewLimiter(l.perSecond, max(1, int(2*l.perSecond)))
		l.by[c] = one
	}
	return one.Allow()
}

func tooMany() *proto.Problem {
	return &proto.Problem{
		Status: http.StatusTooManyRequests, Code: proto.ProblemTooManyAttempts, RetryAfter: 1,
		Detail: "This API key makes more requests a second than allowed. Try again later.",
	}
}
