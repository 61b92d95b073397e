package redis

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sony/gobreaker/v2"
)

// breakerFixture is a breaker that opens after 3 failures and probes every 500 ms.
type breakerFixture struct {
	*breaker
	t        *testing.T
	reported []string
}

var errDown = errors.New("down")

// testBreaker runs the test with a breaker, on a clock that time.Sleep advances.
func testBreaker(t *testing.T, test func(b *breakerFixture)) {
	synctest.Test(t, func(t *testing.T) {
		b := &breakerFixture{t: t}
		b.breaker = newBreaker(3, 500*time.Millisecond, func(down bool, cause error) {
			b.reported = append(b.reported, fmt.Sprint(down, " ", cause))
		})
		test(b)
	})
}

// allowed fails the test unless a call is let through, as a probe or not.
func (b *breakerFixture) allowed(probe bool) (leave func(outcome, error)) {
	b.t.Helper()
	leave, err := b.enter()
	if got := b.circuit.State() == gobreaker.StateHalfOpen; err != nil || got != probe {
		b.t.Fatalf("probe %v, error %v; want probe %v", got, err, probe)
	}
	return leave
}

// refused fails the test unless a call is refused.
func (b *breakerFixture) refused() {
	b.t.Helper()
	if _, err := b.enter(); !errors.Is(err, errDown) {
		b.t.Fatalf("let through (%v)", err)
	}
}

// trip opens the breaker.
func (b *breakerFixture) trip() {
	b.t.Helper()
	for range 3 {
		b.allowed(false)(failed, errDown)
	}
}

func TestBreakerOpensAfterFailuresInARow(t *testing.T) {
	testBreaker(t, func(b *breakerFixture) {
		for range 10 {
			for range 2 {
				b.allowed(false)(failed, errDown)
			}
			b.allowed(false)(answered, nil)
		}
		if len(b.reported) > 0 {
			b.t.Errorf("reported %q", b.reported)
		}
		b.trip()
		b.refused()
		if want := []string{"true down"}; !slices.Equal(b.reported, want) {
			b.t.Errorf("reported %q, want %q", b.reported, want)
		}
	})
}

func TestBreakerAllowsOneProbePerInterval(t *testing.T) {
	testBreaker(t, func(b *breakerFixture) {
		b.trip()
		time.Sleep(499 * time.Millisecond)
		b.refused()
		time.Sleep(time.Millisecond)
		leave := b.allowed(true)
		b.refused()
		time.Sleep(time.Second) // the probe hangs
		b.refused()
		leave(failed, errDown)
		b.allowed(true)(failed, errDown) // the last one began more than an interval ago
		b.refused()
		if len(b.reported) != 1 {
			b.t.Errorf("reported %q", b.reported)
		}
	})
}

func TestBreakerClosesWithTheFirstAnswer(t *testing.T) {
	for _, probe := range []bool{true, false} { // false: a call from before it opened, late
		testBreaker(t, func(b *breakerFixture) {
			leave := b.allowed(false)
			b.trip()
			if probe {
				time.Sleep(time.Second)
				leave = b.allowed(true)
			}
			leave(answered, nil)
			b.allowed(false)
			b.allowed(false)
			if want := []string{"true down", "false <nil>"}; !slices.Equal(b.reported, want) {
				b.t.Errorf("reported %q, want %q", b.reported, want)
			}
		})
	}
}

// Late failures of calls from before the breaker opened do not make way for a second
// probe.
func TestBreakerKeepsItsProbe(t *testing.T) {
	testBreaker(t, func(b *breakerFixture) {
		late := b.allowed(false)
		b.trip()
		time.Sleep(time.Second)
		b.allowed(true)
		late(failed, errDown)
		b.refused()
	})
}

func TestBreakerProbesAgainAfterAnAbandonedProbe(t *testing.T) {
	testBreaker(t, func(b *breakerFixture) {
		b.trip()
		time.Sleep(time.Second)
		b.allowed(true)(abandoned, nil)
		b.refused()
		time.Sleep(time.Second)
		b.allowed(true)
	})
}
