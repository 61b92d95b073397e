package nodes

import "time"

const (
	// clientReportTTL is how long a client's report that it cannot reach a node
	// counts.
	clientReportTTL = 30 * time.Second
	// fullEffectPart is the fraction of a node's sessions whose users must report
	// it within clientReportTTL for the reports to have their full effect.
	// fullEffectMin is the least number of users for that.
	fullEffectPart = 0.02
	fullEffectMin  = 20
	// maxClientPenalty is the load penalty, in percent, at full effect. No number
	// of clients can stop sessions from being assigned to a node: clients may be
	// wrong, or lie.
	maxClientPenalty = 50
	// maxClientReports bounds the users that are remembered for one node.
	maxClientReports = 1000
)

// clientReports holds the users that recently reported a node as unreachable.
// Each user counts once.
type clientReports struct {
	until   map[string]time.Duration // when the report expires, by user; nil if there are none
	penalty int                      // load penalty in percent, as of the last tick
}

// ClientReport records that a user could not reach the node. It counts from the next
// Tick.
func (t *Table) ClientReport(now time.Time, id, user string) {
	t.SetTime(now)
	n := t.byID[id]
	if n == nil {
		return
	}
	n.outcomes.Failed++
	if n.clients.until == nil {
		n.clients.until = map[string]time.Duration{}
	}
	if len(n.clients.until) < maxClientReports {
		n.clients.until[user] = t.now + clientReportTTL
	}
}

// expire forgets the reports that are too old, and updates the penalty of a node that
// holds live sessions.
func (c *clientReports) expire(now time.Duration, live uint32) {
	for user, until := range c.until {
		if now >= until {
			delete(c.until, user)
		}
	}
	enough := max(fullEffectMin, fullEffectPart*float64(live))
	c.penalty = int(maxClientPenalty * min(float64(len(c.until))/enough, 1))
	if len(c.until) == 0 {
		c.until = nil
	}
}
