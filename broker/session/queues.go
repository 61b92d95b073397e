package session

import (
	"context"
	"time"
)

// Queues is the part of a Store in which logins wait until there is capacity. All
// brokers share the queues. See Store for what all methods have in common.
type Queues interface {
	// Wait adds the entry to the end of the queue, or keeps the position that it
	// has, for ttl. It removes entries whose ttl has passed. If entry is "", Wait
	// only reads the queue. by names the broker that calls.
	Wait(ctx context.Context, queue, entry, by string, ttl time.Duration) (QueueStatus, error)

	// Admit removes the entry from the queue. sid is the session that the entry was
	// given: for ttl, Wait returns it to a caller that asks for the entry again. sid
	// is "" if the entry was given up. by names the broker that calls.
	Admit(ctx context.Context, queue, entry, sid, by string, ttl time.Duration) error
}

// QueueStatus describes a queue, and the position of one entry in it.
type QueueStatus struct {
	Ahead   int     // entries before this one
	Waiting int     // entries in the queue, including this one
	Rate    float64 // entries admitted a second, averaged over QueueRate; 0 if none were
	Recent  int     // entries that other brokers admitted within QueueRecent
	Session string  // the session that the entry was given; then it is no longer in the queue
	GivenUp int     // entries that this call removed because their ttl had passed
}

// QueueRate is the time constant of QueueStatus.Rate, an exponential average.
const QueueRate = 30 * time.Second

// QueueRecent is how long a new session may be missing from the load that its
// node reports.
const QueueRecent = 1500 * time.Millisecond
