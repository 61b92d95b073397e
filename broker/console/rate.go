package console

import (
	"net/http"
	"sync"

	"golang.org/x/time/rate"

	"github.com/usher-broker/usher/proto"
)

// limiter bounds the requests of each caller: a backend in a loop must not keep
// the others, and the broker, from their work.
type limiter struct {
	perSecond rate.Limit

	mu sync.Mutex
	by map[caller]*rate.Limiter // there are no more callers than keys have been
}

// maxCallers bounds the callers that are remembered: keys come and go.
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
		Detail: "This key makes more requests a second than it may. Try again later.",
	}
}
