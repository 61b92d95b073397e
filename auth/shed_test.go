package auth

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

// When more requests arrive than can be handled, some wait, the others get different
// Retry-After times, and every request that is let through is answered.
func TestReconnectSheds(t *testing.T) {
	d := newFixture(t, func(c *Config) {
		c.Reconnects, c.ReconnectWait, c.ReassignTimeout = 2, 10*time.Millisecond, time.Minute
	})
	d.broker.takes = 20 * time.Millisecond // one at a time: the fake holds its lock
	raw := d.token(nil)
	const clients = 300
	answers := make([]answer, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			answers[i] = d.do("POST", "/v1/reconnect", `{}`, "Authorization", "Bearer "+raw)
		})
	}
	wg.Wait()
	ok, when := 0, map[int]int{}
	for _, a := range answers {
		if a.status == 200 {
			ok++
			continue
		}
		a.problem(t, 503, proto.ProblemOverloaded)
		s, err := strconv.Atoi(a.header.Get("Retry-After"))
		if err != nil || s < 1 || s > 10 {
			t.Fatalf("Retry-After %q", a.header.Get("Retry-After"))
		}
		when[s]++
	}
	if ok < 2 || ok == clients {
		t.Errorf("%d of %d answered", ok, clients)
	}
	if len(when) < 3 {
		t.Errorf("all have the same Retry-After: %v", when)
	}
	if d.do("POST", "/v1/reconnect", `{}`, "Authorization", "Bearer "+raw).status != 200 {
		t.Error("refused after all others were answered")
	}
}
