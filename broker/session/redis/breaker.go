package redis

import (
	"sync"
	"time"
)

// breaker keeps callers from waiting for a server that is away. After a few
// failures in a row it lets only one call through in a while, the probe; the
// first success opens the way for all.
//
// One success between failures is enough to keep it out of the way: in a
// cluster of which one master is away, the sessions of the others are served.
type breaker struct {
	limit  int           // failures in a row
	every  time.Duration // between the starts of two probes
	now    func() time.Time
	report func(away bool, cause error) // on each change; the lock is held

	mu       sync.Mutex
	failures int
	probing  bool
	next     time.Time // not before then a probe may start
	cause    error     // of the last failure
}

// outcome is what a call says about the server.
type outcome int

const (
	answered  outcome = iota // the server answered, be it with an error
	failed                   // it did not
	abandoned                // the caller gave up: nothing is known
)

// enter asks whether a call may be made; if not, it returns the cause of the
// last failure. A call that was let through reports with leave, handing on
// probe.
func (b *breaker) enter() (probe bool, cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < b.limit {
		return false, nil
	}
	now := b.now()
	if b.probing || now.Before(b.next) {
		return false, b.cause
	}
	b.probing = true
	b.next = now.Add(b.every)
	return true, nil
}

// leave reports how a call went that enter let through.
func (b *breaker) leave(probe bool, o outcome, cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
	switch o {
	case answered:
		if b.failures >= b.limit {
			b.report(false, nil)
		}
		b.failures = 0
	case failed:
		b.cause = cause
		if b.failures++; b.failures == b.limit {
			b.next = b.now().Add(b.every)
			b.report(true, cause)
		}
	}
}
