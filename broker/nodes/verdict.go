package nodes

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Level is the worst of the rules that a node fails. If no node is eligible, the
// placement ignores the rules before Full one after another, in this order, rather
// than refuse a session.
type Level uint8

// The levels, the best first.
const (
	Eligible       Level = iota
	FullPenalty          // it reports a load penalty of 100 %
	Silent               // its last report is too old
	Suspended            // a probe that followed a client's report failed recently
	FullByEstimate       // full by the estimate, not by what is known for certain
	ProbesFail           // probes fail; earlier ones succeeded
	Full                 // known to be full
	NotReached           // no probe has succeeded yet
	NotReady             // it takes no sessions
)

// Verdict says whether a node may be given sessions, and why not.
type Verdict struct {
	Level   Level
	Reasons []string // one for each rule that it fails, that of Level first; none if it is eligible
}

// Eligible reports whether the node may be given sessions.
func (v Verdict) Eligible() bool { return v.Level == Eligible }

// Why returns the first reason, or "".
func (v Verdict) Why() string {
	if len(v.Reasons) == 0 {
		return ""
	}
	return v.Reasons[0]
}

// failed returns the rules that the node fails, as a set of bits 1<<Level. It also counts
// the pending sessions that have expired by now as missed.
func (n *Node) failed() (rules uint16) {
	n.advance()
	if n.state != proto.StateReady && n.state != proto.StateFull {
		rules |= 1 << NotReady
	}
	if n.table.cfg.Probes.enabled() {
		switch n.probe.reach {
		case Untried, NeverReached:
			rules |= 1 << NotReached
		case Unreachable:
			rules |= 1 << ProbesFail
		}
	}
	switch {
	case n.state == proto.StateFull || uint64(n.live)+uint64(n.pending.sum) >= uint64(n.capacity):
		rules |= 1 << Full
	case n.Load()+1 > float64(n.capacity):
		rules |= 1 << FullByEstimate
	}
	if n.table.now < n.suspended {
		rules |= 1 << Suspended
	}
	if n.silent() {
		rules |= 1 << Silent
	}
	if n.penalty >= 100 {
		rules |= 1 << FullPenalty
	}
	return rules
}

// Level returns the worst rule that the node fails, or Eligible.
func (n *Node) Level() Level { return n.worst(n.failed()) }

func (n *Node) worst(rules uint16) Level {
	switch {
	case rules == 0:
		return Eligible
	case n.state == proto.StateFull: // what the node says itself counts more than its address
		return Full
	}
	return Level(bits.Len16(rules) - 1)
}

// Eligible reports whether the node may be given sessions.
func (n *Node) Eligible() bool { return n.failed() == 0 }

// Verdict says whether the node may be given sessions, and if not, names every rule
// that it fails.
func (n *Node) Verdict() Verdict {
	rules := n.failed()
	if rules == 0 {
		return Verdict{}
	}
	v := Verdict{Level: n.worst(rules)}
	v.Reasons = append(v.Reasons, n.reason(v.Level))
	for l := NotReady; l > Eligible; l-- {
		if l != v.Level && rules&(1<<l) != 0 {
			v.Reasons = append(v.Reasons, n.reason(l))
		}
	}
	return v
}

// reason says what the rule of the level found.
func (n *Node) reason(l Level) string {
	now := n.table.now
	switch l {
	case FullPenalty:
		return "it reports a load penalty of 100 %"
	case Silent:
		return fmt.Sprintf("no report for %v", (now - n.reportedAt).Truncate(100*time.Millisecond))
	case Suspended:
		return fmt.Sprintf("suspended after a failed probe for another %v", (n.suspended - now).Truncate(100*time.Millisecond))
	case FullByEstimate:
		return fmt.Sprintf("full, including the sessions under way: about %.0f of %d", n.Load(), n.capacity)
	case Full:
		return fmt.Sprintf("full: %d of %d, %d under way", n.live, n.capacity, n.pending.sum)
	case NotReached, ProbesFail:
		if n.probe.reach == Untried {
			return "its address was not probed yet"
		}
		return "clients cannot connect: " + n.probe.why
	}
	return n.state.String()
}

// View is what a broker knows of a node and how it rates it, as values.
type View struct {
	Peer     proto.Peer
	Report   proto.Report  // the last one; zero if none came since the node started
	Age      time.Duration // since the last report
	Pending  int           // sessions that this broker sent there and that have not arrived
	Estimate float64       // sessions it is estimated to hold, with those under way from every broker
	Outcomes Outcomes
	Reach    Reach
	// Unreached is why clients cannot connect, or the error of the last failed
	// probe.
	Unreached   string
	LoadPenalty int // percent by which it gets fewer sessions than its capacity allows
	Verdict
}

// View returns what is known of the node.
func (n *Node) View() View {
	v := n.Verdict()
	return View{
		Peer: n.peer, Report: n.report, Age: n.table.now - n.reportedAt,
		Pending: n.pending.sum, Estimate: n.Load(), Outcomes: n.outcomes,
		Reach: n.probe.reach, Unreached: n.probe.why, LoadPenalty: n.penalty, Verdict: v,
	}
}
