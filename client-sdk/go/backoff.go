package usher

import (
	"time"

	"github.com/usher-broker/usher/proto"
)

// door is where a client goes next.
type door uint8

const (
	doorAttach    door = iota // to the node last named
	doorReconnect             // to /v1/reconnect
	doorStop                  // nowhere
)

const (
	firstCeiling = 100 * time.Millisecond
	maxCeiling   = 20 * time.Second
	maxHint      = time.Minute
	calmAfter    = 10 * time.Second // attached so long, the waits start anew
	maxFailures  = 3                // to attach at one address
	maxAtOneNode = 10 * time.Second // without a connection
)

// retry decides what a client waits and where it goes: the chapter "Waiting
// and where to go" of PROTOCOL.md, without a clock or a socket.
type retry struct {
	rand     func() float64
	ceiling  time.Duration
	failures int       // to attach, since the last welcome or address
	since    time.Time // when the last connection ended, or auth named the node
}

// ended is a connection that had its welcome.
func (r *retry) ended(now time.Time, code proto.CloseCode, attached time.Duration) (time.Duration, door) {
	if attached >= calmAfter {
		r.ceiling = 0
	}
	r.since = now
	return r.after(now, code)
}

// failed is an attempt to attach that opened a WebSocket and had no welcome.
func (r *retry) failed(now time.Time, code proto.CloseCode) (time.Duration, door) {
	r.failures++
	return r.after(now, code)
}

// unreachable is an attempt to attach that opened no WebSocket.
func (r *retry) unreachable() (time.Duration, door) {
	return r.wait(0), doorReconnect
}

// unanswered is a /v1/reconnect without an answer, or with one that says to
// try again after the hint.
func (r *retry) unanswered(hint time.Duration) (time.Duration, door) {
	return r.wait(hint), doorReconnect
}

// welcomed is a welcome. It does not shorten the waits, or a node that accepts
// and drops would be called in a tight loop.
func (r *retry) welcomed() { r.failures = 0 }

// named is a node named by auth.
func (r *retry) named(now time.Time) { r.failures, r.since = 0, now }

func (r *retry) after(now time.Time, code proto.CloseCode) (time.Duration, door) {
	next := doorAttach
	switch code.Action() {
	case proto.ActionStop, proto.ActionApp:
		return 0, doorStop
	case proto.ActionReconnect:
		next = doorReconnect
	case proto.ActionRetry:
		if r.failures >= maxFailures || now.Sub(r.since) >= maxAtOneNode {
			next = doorReconnect
		}
	}
	return r.wait(0), next
}

func (r *retry) wait(hint time.Duration) time.Duration {
	r.ceiling = max(firstCeiling, min(2*r.ceiling, maxCeiling), min(hint, maxHint))
	return time.Duration(r.rand() * float64(r.ceiling))
}
