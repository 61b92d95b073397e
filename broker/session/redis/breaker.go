package redis

import (
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// breaker keeps callers from waiting for a server that does not answer. After a few
// failures in a row it is open: it lets only one call at a time through, the probe,
// and refuses all others. The first answer closes it, that of a call from before it
// opened included.
//
// One success between failures is enough to keep it closed. In a cluster of which one
// master does not answer, the sessions of the other masters are therefore served.
type breaker struct {
	settings gobreaker.Settings
	every    time.Duration
	report   func(down bool, cause error) // called on each change, with mu held

	mu      sync.Mutex
	circuit *gobreaker.TwoStepCircuitBreaker[struct{}] // replaced when an answer closes it
	cause   error                                      // of the last failure
}

// newBreaker returns a breaker that opens after limit failures in a row. While it is
// open, it starts a probe when the last one has failed and every has passed since that
// probe began.
func newBreaker(limit uint32, every time.Duration, report func(down bool, cause error)) *breaker {
	b := &breaker{every: every, report: report}
	b.settings = gobreaker.Settings{
		Timeout:     every - 1, // a probe is due at this time, not after it
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= limit },
		IsExcluded:  func(err error) bool { return errors.Is(err, errNoOutcome) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			if from == gobreaker.StateClosed && to == gobreaker.StateOpen {
				report(true, b.cause)
			}
		},
	}
	b.circuit = gobreaker.NewTwoStepCircuitBreaker[struct{}](b.settings)
	return b
}

// errNoOutcome means that a call says nothing about the server.
var errNoOutcome = errors.New("no outcome")

// outcome is what a call says about the server.
type outcome int

const (
	answered  outcome = iota // the server answered, possibly with an error
	failed                   // it did not answer
	abandoned                // the caller gave up: nothing is known
)

// enter asks whether a call may be made. If not, it returns the cause of the last
// failure. The caller reports the outcome of a call with leave.
func (b *breaker) enter() (leave func(outcome, error), cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	done, err := b.circuit.Allow()
	if err != nil {
		return nil, b.cause
	}
	probe, began := b.circuit.State() == gobreaker.StateHalfOpen, time.Now()
	return func(o outcome, cause error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if o == failed {
			b.cause = cause
		}
		// The other error makes a probe wait for its time again. It is kept out of a
		// probe that took longer: the next one is due.
		switch {
		case o == answered && b.circuit.State() != gobreaker.StateClosed:
			b.circuit = gobreaker.NewTwoStepCircuitBreaker[struct{}](b.settings)
			b.report(false, nil)
		case o == answered:
			done(nil)
		case probe && time.Since(began) < b.every, !probe && o == failed:
			done(b.cause)
		default:
			done(errNoOutcome)
		}
	}, nil
}
