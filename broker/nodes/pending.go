package nodes

import "time"

const (
	// bucketWidth is the resolution of the time of a pick.
	bucketWidth = 250 * time.Millisecond
	// pendingExpiry is how long a session that has not arrived counts as pending.
	pendingExpiry = 8 * time.Second
	// buckets is one more than fit into the expiry, because the current one is
	// not complete.
	buckets = int(pendingExpiry/bucketWidth) + 1
)

// pending counts the sessions that were sent to a node and have not arrived, by
// the time they were sent.
type pending struct {
	sum  int
	head int64 // number of the newest bucket
	ring [buckets]uint32
}

func newPending(at time.Duration) pending { return pending{head: int64(at / bucketWidth)} }

// advance removes the sessions that have expired and returns their number. If time
// runs backwards it does nothing.
func (p *pending) advance(at time.Duration) (expired uint64) {
	head := int64(at / bucketWidth)
	if head <= p.head {
		return 0
	}
	before := p.sum
	if before == 0 || head-p.head >= int64(buckets) {
		*p = pending{head: head}
		return uint64(before)
	}
	for p.head < head {
		p.head++
		b := &p.ring[p.head%int64(buckets)]
		p.sum -= int(*b)
		*b = 0
	}
	return uint64(before - p.sum)
}

// add counts one session sent at the time of the last advance.
func (p *pending) add() {
	p.ring[p.head%int64(buckets)]++
	p.sum++
}

// remove removes n sessions, the newest first, and returns how many there were. The
// oldest are most likely those that will never arrive; if they were removed first,
// abandoned sessions would count as sent just now.
func (p *pending) remove(n uint64) (removed uint64) {
	for i := int64(0); i < int64(buckets) && n > removed && p.sum > 0; i++ {
		b := &p.ring[(p.head-i+int64(buckets))%int64(buckets)]
		take := uint32(min(n-removed, uint64(*b)))
		*b -= take
		p.sum -= int(take)
		removed += uint64(take)
	}
	return removed
}
