package nodes

import (
	"cmp"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Probes configures how the results of the periodic probes count.
type Probes struct {
	Interval time.Duration // time between two probes of a node; 0: there are none
	// Out is the number of consecutive failed probes after which a node gets no
	// sessions. In is the number of consecutive successful probes after which it
	// gets sessions again. Defaults 3 and 2.
	Out, In int
}

func (p Probes) withDefaults() Probes {
	p.Out, p.In = cmp.Or(p.Out, 3), cmp.Or(p.In, 2)
	return p
}

func (p Probes) enabled() bool { return p.Interval > 0 }

// Reach says whether clients can connect to a node's address.
type Reach uint8

// The results of the probes of an address.
const (
	Untried      Reach = iota // not probed yet
	Reached                   // the last probes succeeded
	Unreachable               // the last probes failed, earlier ones succeeded
	NeverReached              // no probe ever succeeded
)

func (r Reach) String() string {
	return [...]string{"untried", "reached", "unreachable", "never_reached"}[r]
}

// probe is the result of the periodic probes of a node's address.
type probe struct {
	reach   Reach
	why     string        // error of the last failed probe
	inRow   int           // number of consecutive probes with the last result
	failing bool          // the last probe failed
	busy    bool          // a probe is under way
	next    time.Duration // time of the next probe
}

// eagerRetry is how soon a node that was never reached is probed again: it may
// still be starting.
const eagerRetry = 250 * time.Millisecond

// StartProbes calls start for each node whose probe is due, until start returns
// false. The caller passes the results to Probed. StartProbes returns the time until
// the next probe is due, at most most: 0 if start returned false.
func (t *Table) StartProbes(now time.Time, most time.Duration, start func(id, url string) bool) (next time.Duration) {
	t.SetTime(now)
	next = most
	if !t.cfg.Probes.enabled() {
		return next
	}
	for _, n := range t.sorted {
		p := &n.probe
		switch {
		case n.peer.URL == "" || n.peer.State == proto.StateStarting:
			continue
		case p.busy: // its result sets the time of the next one
			next = min(next, t.cfg.Probes.Interval)
			continue
		case t.now < p.next:
			next = min(next, p.next-t.now)
			continue
		}
		if !start(n.peer.ID, n.peer.URL) {
			return 0
		}
		p.busy = true
	}
	return next
}

// Probed records the result of a probe of a node's address: the error, or nil. It
// ignores the result for an address that the node no longer has. jitter, from 0 to 1,
// spreads the time of the next probe, so that the probes of many brokers do not
// coincide. Probed returns the reachability before and after.
func (t *Table) Probed(now time.Time, id, url string, err error, jitter float64) (before, after Reach) {
	t.SetTime(now)
	n := t.byID[id]
	if n == nil || n.peer.URL != url {
		return Untried, Untried
	}
	p, cfg := &n.probe, t.cfg.Probes
	before = p.reach
	p.record(err, cfg)
	wait := cfg.Interval
	if p.reach == NeverReached && p.inRow < 8 {
		wait = min(wait, eagerRetry*time.Duration(p.inRow))
	}
	p.next = t.now + wait*9/10 + time.Duration(jitter*float64(wait/5))
	if p.reach != before {
		t.changes++
	}
	return before, p.reach
}

// record updates the reachability with the result of a probe.
func (p *probe) record(err error, cfg Probes) {
	p.busy = false
	if failed := err != nil; failed != p.failing || p.inRow == 0 {
		p.failing, p.inRow = failed, 0
	}
	p.inRow++
	if err != nil {
		p.why = err.Error()
	}
	switch p.reach {
	case Untried:
		p.reach = Reached
		if err != nil {
			p.reach = NeverReached
		}
	case Reached:
		if err != nil && p.inRow >= cfg.Out {
			p.reach = Unreachable
		}
	case Unreachable, NeverReached:
		if err == nil && p.inRow >= cfg.In {
			p.reach = Reached
		}
	}
	if p.reach == Reached && err == nil {
		p.why = ""
	}
}

// Suspend suspends a node that failed a probe until that time, or until its next
// report. A suspended node is picked only if no other is available. Suspend returns
// false, and does nothing, if the node has left, or has reported since last: then it
// is alive, and its address may be one that only clients can reach.
func (t *Table) Suspend(id string, last ReportID, until time.Time) bool {
	n := t.byID[id]
	if n == nil || n.LastReport() != last {
		return false
	}
	n.suspended = until.Sub(t.start)
	t.changes++
	return true
}
