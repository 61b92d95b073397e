package auth

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

// When more ask than can be worked on, some wait, the rest is told to come back
// at different times, and whoever is let in is answered.
func TestReconnectSheds(t *testing.T) {
	d := newRig(t, func(c *Config) { c.Reconnects, c.ReconnectWait, c.BrokerTimeout = 2, 10*time.Millisecond, time.Minute })
	d.broker.takes = 20 * time.Millisecond // one at a time: the fake holds its lock
	raw := d.token(nil)
	const crowd = 300
	answers := make([]answer, crowd)
	var wg sync.WaitGroup
	for i := range crowd {
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
	if ok < 2 || ok == crowd {
		t.Errorf("%d of %d answered", ok, crowd)
	}
	if len(when) < 3 {
		t.Errorf("they are told to come back together: %v", when)
	}
	if d.do("POST", "/v1/reconnect", `{}`, "Authorization", "Bearer "+raw).status != 200 {
		t.Error("refused after the crowd has gone")
	}
}
