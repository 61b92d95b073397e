package placement

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
// the time they were sent. The zero value is empty at time 0.
type pending struct {
	sum  int
	head int64 // number of the newest bucket
	ring [buckets]uint32
}

// advance removes expired sessions. If time runs backwards it does nothing.
func (p *pending) advance(at time.Duration) {
	head := int64(at / bucketWidth)
	if head <= p.head {
		return
	}
	if p.sum == 0 || head-p.head >= int64(buckets) {
		*p = pending{head: head}
		return
	}
	for p.head < head {
		p.head++
		b := &p.ring[p.head%int64(buckets)]
		p.sum -= int(*b)
		*b = 0
	}
}

// add counts one session sent now.
func (p *pending) add(at time.Duration) {
	p.advance(at)
	p.ring[p.head%int64(buckets)]++
	p.sum++
}

// remove removes n sessions, the newest first. The oldest are most likely those
// that will never arrive; if they were removed first, abandoned sessions would
// count as sent just now. If there are fewer than n it removes all.
func (p *pending) remove(n uint64) {
	for i := int64(0); i < int64(buckets) && n > 0 && p.sum > 0; i++ {
		b := &p.ring[(p.head-i+int64(buckets))%int64(buckets)]
		take := uint32(min(n, uint64(*b)))
		*b -= take
		p.sum -= int(take)
		n -= uint64(take)
	}
}
