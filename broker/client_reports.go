package broker

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
	until map[string]time.Time // when the report expires, by user
}

func (d *clientReports) add(user string, now time.Time) {
	if d.until == nil {
		d.until = map[string]time.Time{}
	}
	if len(d.until) < maxClientReports {
		d.until[user] = now.Add(clientReportTTL)
	}
}

// penalty returns the load penalty of a node that holds live sessions, in
// percent.
func (d *clientReports) penalty(now time.Time, live uint32) int {
	for user, until := range d.until {
		if !now.Before(until) {
			delete(d.until, user)
		}
	}
	enough := max(fullEffectMin, fullEffectPart*float64(live))
	return int(maxClientPenalty * min(float64(len(d.until))/enough, 1))
}

// addClientReport records that a user could not reach a node.
func (b *Broker) addClientReport(id, user string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.nodes[id]; n != nil {
		n.clientReports.add(user, b.cfg.Now())
	}
}

// applyClientReports updates the penalties from client reports in the placement
// table.
func (b *Broker) applyClientReports() {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.cfg.Now()
	for id, n := range b.nodes {
		if n.clientReports.until != nil {
			b.table.SetClientPenalty(id, n.clientReports.penalty(now, n.live))
			if len(n.clientReports.until) == 0 {
				n.clientReports.until = nil
			}
		}
	}
}
