package broker

import "time"

const (
	// doubtFor is how long a client's word that it cannot reach a node counts.
	doubtFor = 30 * time.Second
	// doubtPart is the part of a node's sessions whose users must say so, within
	// that time, for the word to have its full weight; doubtFew are the fewest.
	doubtPart = 0.02
	doubtFew  = 20
	// maxDoubt is the percentage by which a node then gets fewer sessions. No
	// number of clients can shut a node: they may be in the wrong, or lie.
	maxDoubt = 50
	// maxDoubts bounds the users that are remembered of a node.
	maxDoubts = 1000
)

// doubts are the users who could not reach a node of late. Each counts once.
type doubts struct {
	until map[string]time.Time // by user
}

func (d *doubts) add(user string, now time.Time) {
	if d.until == nil {
		d.until = map[string]time.Time{}
	}
	if len(d.until) < maxDoubts {
		d.until[user] = now.Add(doubtFor)
	}
}

// percent returns by how much the node is to get fewer sessions, of which it
// holds so many.
func (d *doubts) percent(now time.Time, live uint32) int {
	for user, until := range d.until {
		if !now.Before(until) {
			delete(d.until, user)
		}
	}
	enough := max(doubtFew, doubtPart*float64(live))
	return int(maxDoubt * min(float64(len(d.until))/enough, 1))
}

// doubt takes in that a user could not reach a node.
func (b *Broker) doubt(id, user string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.nodes[id]; n != nil {
		n.doubts.add(user, b.cfg.Now())
	}
}

// weighDoubts tells the table what clients make of the nodes.
func (b *Broker) weighDoubts() {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.cfg.Now()
	for id, n := range b.nodes {
		if n.doubts.until != nil {
			b.table.Doubt(id, n.doubts.percent(now, n.live))
			if len(n.doubts.until) == 0 {
				n.doubts.until = nil
			}
		}
	}
}
