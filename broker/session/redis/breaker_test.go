package redis

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// bench is a breaker on a clock that the test moves.
type bench struct {
	*breaker
	t    *testing.T
	time time.Time
	told []string
}

var errDown = errors.New("down")

func newBench(t *testing.T) *bench {
	b := &bench{t: t, time: time.Unix(1e9, 0)}
	b.breaker = &breaker{
		limit: 3, every: 500 * time.Millisecond, now: func() time.Time { return b.time },
		report: func(away bool, cause error) { b.told = append(b.told, fmt.Sprint(away, " ", cause)) },
	}
	return b
}

// let fails the test unless the call is let through, as probe or not.
func (b *bench) let(probe bool) {
	b.t.Helper()
	if got, err := b.enter(); err != nil || got != probe {
		b.t.Fatalf("probe %v, error %v; want probe %v", got, err, probe)
	}
}

func (b *bench) refused() {
	b.t.Helper()
	if _, err := b.enter(); !errors.Is(err, errDown) {
		b.t.Fatalf("let through (%v)", err)
	}
}

// trip opens the breaker.
func (b *bench) trip() {
	b.t.Helper()
	for range 3 {
		b.let(false)
		b.leave(false, failed, errDown)
	}
}

func TestBreakerOpensAfterFailuresInARow(t *testing.T) {
	b := newBench(t)
	for range 10 {
		for range 2 {
			b.let(false)
			b.leave(false, failed, errDown)
		}
		b.let(false)
		b.leave(false, answered, nil)
	}
	if len(b.told) > 0 {
		t.Errorf("reported %q", b.told)
	}
	b.trip()
	b.refused()
	if want := []string{"true down"}; !slices.Equal(b.told, want) {
		t.Errorf("reported %q, want %q", b.told, want)
	}
}

func TestBreakerLetsOneProbeThroughInAWhile(t *testing.T) {
	b := newBench(t)
	b.trip()
	b.time = b.time.Add(499 * time.Millisecond)
	b.refused()
	b.time = b.time.Add(time.Millisecond)
	b.let(true)
	b.refused()
	b.time = b.time.Add(time.Second) // the probe hangs
	b.refused()
	b.leave(true, failed, errDown)
	b.let(true) // it was started long ago
	b.leave(true, failed, errDown)
	b.refused()
	if len(b.told) != 1 {
		t.Errorf("reported %q", b.told)
	}
}

func TestBreakerClosesWithTheFirstAnswer(t *testing.T) {
	for _, probe := range []bool{true, false} { // false: a call from before, late
		b := newBench(t)
		b.trip()
		if probe {
			b.time = b.time.Add(time.Second)
			b.let(true)
		}
		b.leave(probe, answered, nil)
		b.let(false)
		b.let(false)
		if want := []string{"true down", "false <nil>"}; !slices.Equal(b.told, want) {
			t.Errorf("reported %q, want %q", b.told, want)
		}
	}
}

// Late failures of calls from before do not end the probe's turn.
func TestBreakerKeepsItsProbe(t *testing.T) {
	b := newBench(t)
	b.let(false)
	b.trip()
	b.time = b.time.Add(time.Second)
	b.let(true)
	b.leave(false, failed, errDown)
	b.refused()
}

func TestBreakerTriesAgainAfterAnAbandonedProbe(t *testing.T) {
	b := newBench(t)
	b.trip()
	b.time = b.time.Add(time.Second)
	b.let(true)
	b.leave(true, abandoned, nil)
	b.refused()
	b.time = b.time.Add(time.Second)
	b.let(true)
}
