package usher

import (
	"time"

	"github.com/usher-broker/usher/proto"
)

// step is what a client does after a wait.
type step uint8

const (
	stepAttach    step = iota // attach at the node last named
	stepReconnect             // call /v1/reconnect
	stepStop                  // stop: the session has ended
)

const (
	firstCeiling = 100 * time.Millisecond
	maxCeiling   = 20 * time.Second
	maxHint      = time.Minute
	stableAfter  = 10 * time.Second // after this time attached, the ceiling returns to 0
	maxFailures  = 3                // failed attempts to attach at one node
	maxAtOneNode = 10 * time.Second // time without a connection at one node
)

// retry decides how long a client waits and what it does then. It implements
// section 13 of PROTOCOL.md, and uses no clock and no socket. Each method reports
// an event; most return the wait and the next step.
type retry struct {
	rand     func() float64
	ceiling  time.Duration
	failures int       // failed attempts to attach since the last welcome or assignment
	since    time.Time // when the last connection ended, or auth named the node
}

// ended reports that a connection ended that had its welcome, with the code and
// the time since the welcome.
func (r *retry) ended(now time.Time, code proto.CloseCode, attached time.Duration) (time.Duration, step) {
	if attached >= stableAfter {
		r.ceiling = 0
	}
	r.since = now
	return r.after(now, code)
}

// failed reports an attempt to attach that opened a WebSocket and got no welcome.
func (r *retry) failed(now time.Time, code proto.CloseCode) (time.Duration, step) {
	r.failures++
	return r.after(now, code)
}

// unreachable reports an attempt to attach that opened no WebSocket.
func (r *retry) unreachable() (time.Duration, step) {
	return r.wait(0), stepReconnect
}

// unanswered reports a /v1/reconnect without an answer, or with an answer that asks
// to try again after the hint.
func (r *retry) unanswered(hint time.Duration) (time.Duration, step) {
	return r.wait(hint), stepReconnect
}

// welcomed reports a welcome. It does not shorten the waits: otherwise a client
// would call a node that accepts and drops connections in a tight loop.
func (r *retry) welcomed() { r.failures = 0 }

// named reports that auth has named a node.
func (r *retry) named(now time.Time) { r.failures, r.since = 0, now }

func (r *retry) after(now time.Time, code proto.CloseCode) (time.Duration, step) {
	next := stepAttach
	switch code.Action() {
	case proto.ActionStop, proto.ActionApp:
		return 0, stepStop
	case proto.ActionReconnect:
		next = stepReconnect
	case proto.ActionRetry:
		if r.failures >= maxFailures || now.Sub(r.since) >= maxAtOneNode {
			next = stepReconnect
		}
	}
	return r.wait(0), next
}

func (r *retry) wait(hint time.Duration) time.Duration {
	r.ceiling = max(firstCeiling, min(2*r.ceiling, maxCeiling), min(hint, maxHint))
	return time.Duration(r.rand() * float64(r.ceiling))
}
