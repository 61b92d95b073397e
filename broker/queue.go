package broker

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Queue configures how logins wait when every node is full. The zero value of a
// field means its default.
type Queue struct {
	// Limit is how many logins may wait in one queue. Default 100,000.
	Limit int
	// Kept is how long an entry is kept after the time at which the client should
	// have asked again. Default 15 s.
	Kept time.Duration
}

func (q Queue) withDefaults() Queue {
	q.Limit, q.Kept = cmp.Or(q.Limit, 100_000), cmp.Or(q.Kept, 15*time.Second)
	return q
}

// Waiting is the answer to a login that has to wait.
type Waiting struct {
	Entry    string        // the id to ask again with
	Ahead    int           // logins before it in the queue
	Waiting  int           // logins in the queue, this one included
	Estimate time.Duration // expected wait; 0 if unknown
	Again    time.Duration // time until the client should ask again; the entry is kept Queue.Kept longer
}

const (
	// admittedTTL is how long an entry is remembered after its session was
	// opened: the answer may have been lost, and the client asks again.
	admittedTTL = time.Minute
	// lengthTTL is how long the known length of a queue is used for new logins.
	lengthTTL = 250 * time.Millisecond
)

// Enter is Assign for a cluster in which logins wait when every node is full.
// Logins are admitted in the order in which they came, whatever broker they ask.
// entry is "" at first, and then the Waiting.Entry that the login was given.
// Enter returns either an assignment or a Waiting with an Entry. The errors are
// those of Assign; placement.ErrNoCapacity also means that the queue is too long.
//
// A pool has one queue, and another one for each set of strict regions.
func (b *Broker) Enter(ctx context.Context, req proto.AssignmentRequest, entry string) (proto.Assignment, Waiting, error) {
	r, err := newRecord(req)
	if err != nil {
		return proto.Assignment{}, Waiting{}, err
	}
	queue := queueOf(r)
	if entry == "" {
		if !b.anyWaiting(ctx, queue) {
			a, err := b.Assign(ctx, req)
			if !errors.Is(err, placement.ErrNoCapacity) {
				return a, Waiting{}, err
			}
		}
		return b.waitOrAdmit(ctx, queue, rand.Text(), r, req, Queued)
	}
	return b.waitOrAdmit(ctx, queue, entry, r, req, Kept)
}

// waitOrAdmit admits the entry if the nodes have capacity for all entries up to
// it. Otherwise it keeps the entry waiting.
func (b *Broker) waitOrAdmit(ctx context.Context, queue, entry string, r session.Record, req proto.AssignmentRequest, what Waited) (proto.Assignment, Waiting, error) {
	status, err := b.store.Wait(ctx, queue, entry, b.cfg.Issuer, b.cfg.Queue.Kept+longestPoll)
	if err != nil {
		return proto.Assignment{}, Waiting{}, fmt.Errorf("waiting in the queue: %w", err)
	}
	b.queues.set(queue, status.Waiting, b.cfg.Now())
	for range status.GivenUp {
		b.hooks.Waited(r.Pool, Abandoned, status.Waiting)
	}
	switch {
	case status.Session != "":
		return b.assignAgain(ctx, r, status.Session, req.Confirm)
	case what == Queued && status.Waiting > b.cfg.Queue.Limit:
		b.turnOff(ctx, queue, entry, r.Pool, status.Waiting)
		return proto.Assignment{}, Waiting{}, fmt.Errorf("the queue is full, %d logins wait already: %w", status.Waiting-1, placement.ErrNoCapacity)
	case status.Ahead < b.freeCapacity(r)-status.Recent: // sessions that other brokers opened just now may not be in the load yet
		a, err := b.Assign(ctx, req)
		if err == nil {
			b.hooks.Waited(r.Pool, Admitted, status.Waiting-1)
			b.queues.set(queue, status.Waiting-1, b.cfg.Now())
			// After an error the entry expires.
			_ = b.store.Admit(ctx, queue, entry, a.Session, b.cfg.Issuer, admittedTTL)
			return a, Waiting{}, nil
		}
		if !errors.Is(err, placement.ErrNoCapacity) {
			if !errors.Is(err, session.ErrUnavailable) && !errors.Is(err, placement.ErrNoNodes) {
				b.turnOff(ctx, queue, entry, r.Pool, status.Waiting)
			}
			return proto.Assignment{}, Waiting{}, err
		}
	}
	b.hooks.Waited(r.Pool, what, status.Waiting)
	w := Waiting{Entry: entry, Ahead: status.Ahead, Waiting: status.Waiting, Again: pollAfter(status.Ahead)}
	if status.Rate > 1e-3 {
		w.Estimate = time.Duration(float64(status.Ahead+1) / status.Rate * float64(time.Second))
	}
	return proto.Assignment{}, w, nil
}

// turnOff removes an entry whose login is refused.
func (b *Broker) turnOff(ctx context.Context, queue, entry, pool string, waiting int) {
	b.hooks.Waited(pool, TurnedOff, waiting-1)
	_ = b.store.Admit(ctx, queue, entry, "", b.cfg.Issuer, admittedTTL) // after an error the entry expires
}

// assignAgain returns the assignment of an entry whose session was opened before.
// Its client did not receive the first answer.
func (b *Broker) assignAgain(ctx context.Context, r session.Record, sid string, key proto.Confirmation) (proto.Assignment, Waiting, error) {
	a, err := b.Reassign(ctx, proto.Claims{Session: sid, User: r.User, Confirm: key}, "")
	return a, Waiting{}, err
}

// queueOf returns the name of the queue for the session.
func queueOf(r session.Record) string {
	if !r.Strict {
		return r.Pool
	}
	regions := append([]string{r.Region}, r.Fallback...)
	slices.Sort(regions)
	return r.Pool + "\n" + strings.Join(regions, "\n")
}

const longestPoll = 10 * time.Second

// pollAfter returns when a login with that many before it should ask again: soon
// if it is near the front, rarely if it is far behind, and with jitter.
func pollAfter(ahead int) time.Duration {
	wait := longestPoll
	switch {
	case ahead < 10:
		wait = time.Second
	case ahead < 100:
		wait = 2 * time.Second
	case ahead < 1000:
		wait = 5 * time.Second
	}
	return wait*9/10 + mathrand.N(wait/10)
}

// freeCapacity returns how many sessions like r the nodes can take.
func (b *Broker) freeCapacity(r session.Record) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.picker.FreeCapacity(b.cfg.Now(), hints(r, ""))
}

// queueLengths caches the lengths of the queues.
type queueLengths struct {
	mu      sync.Mutex
	byQueue map[string]queueLength
}

type queueLength struct {
	waiting int
	at      time.Time
}

// maxQueues bounds the queues that are remembered.
const maxQueues = 1000

func (l *queueLengths) set(queue string, waiting int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byQueue == nil || len(l.byQueue) >= maxQueues {
		l.byQueue = map[string]queueLength{}
	}
	l.byQueue[queue] = queueLength{waiting, now}
}

func (l *queueLengths) get(queue string) (queueLength, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.byQueue[queue]
	return s, ok
}

// anyWaiting reports whether logins wait in the queue, so that a new login must
// join its end. It returns false if the store fails: the login itself then
// fails as well.
func (b *Broker) anyWaiting(ctx context.Context, queue string) bool {
	now := b.cfg.Now()
	s, ok := b.queues.get(queue)
	if !ok || now.Sub(s.at) >= lengthTTL {
		status, err := b.store.Wait(ctx, queue, "", b.cfg.Issuer, 0)
		if err != nil {
			return false
		}
		s = queueLength{status.Waiting, now}
		b.queues.set(queue, status.Waiting, now)
	}
	return s.waiting > 0
}
