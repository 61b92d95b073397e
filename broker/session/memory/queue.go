package memory

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// queue holds the waiting entries, the first one first.
type queue struct {
	entries  []waiting
	admitted map[string]admitted // by entry
	recent   []admission         // oldest first
	rate     float64             // as of rated
	rated    time.Time
}

type waiting struct {
	entry   string
	expires time.Time
}

// admitted is the session that an entry was given.
type admitted struct {
	sid     string
	expires time.Time
}

// admission says which broker admitted an entry, and when.
type admission struct {
	by   string
	when time.Time
}

func (q *queue) index(entry string) int {
	return slices.IndexFunc(q.entries, func(w waiting) bool { return w.entry == entry })
}

// rateAt returns the exponential average of the entries admitted a second.
func (q *queue) rateAt(now time.Time) float64 {
	if q.rate == 0 {
		return 0
	}
	return q.rate * math.Exp(-now.Sub(q.rated).Seconds()/session.QueueRate.Seconds())
}

// Wait implements session.Store.
func (s *Store) Wait(ctx context.Context, name, entry, by string, ttl time.Duration) (session.QueueStatus, error) {
	if err := s.lock(ctx); err != nil {
		return session.QueueStatus{}, err
	}
	defer s.mu.Unlock()
	now := s.now()
	q, gone := s.queue(name, now)
	status := session.QueueStatus{Waiting: len(q.entries), Rate: q.rateAt(now), GivenUp: gone}
	for _, a := range q.recent {
		if a.by != by {
			status.Recent++
		}
	}
	if a, ok := q.admitted[entry]; ok {
		status.Session = a.sid
		return status, nil
	}
	i := q.index(entry)
	switch {
	case entry == "":
		i = len(q.entries)
	case i < 0:
		i = len(q.entries)
		q.entries = append(q.entries, waiting{entry, now.Add(ttl)})
	default:
		q.entries[i].expires = now.Add(ttl)
	}
	status.Ahead, status.Waiting = i, len(q.entries)
	return status, nil
}

// Admit implements session.Store.
func (s *Store) Admit(ctx context.Context, name, entry, sid, by string, ttl time.Duration) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	now := s.now()
	q, _ := s.queue(name, now)
	if i := q.index(entry); i >= 0 {
		q.entries = slices.Delete(q.entries, i, i+1)
	}
	if sid == "" {
		return nil
	}
	q.rate = q.rateAt(now) + 1/session.QueueRate.Seconds()
	q.rated = now
	q.admitted[entry] = admitted{sid, now.Add(ttl)}
	q.recent = append(q.recent, admission{by, now})
	return nil
}

// queue returns the queue without its expired entries, and how many of them it has
// just removed. s.mu is held.
func (s *Store) queue(name string, now time.Time) (*queue, int) {
	q := s.queues[name]
	if q == nil {
		q = &queue{admitted: map[string]admitted{}}
		s.queues[name] = q
	}
	q.recent = slices.DeleteFunc(q.recent, func(a admission) bool { return now.Sub(a.when) >= session.QueueRecent })
	before := len(q.entries)
	q.entries = slices.DeleteFunc(q.entries, func(w waiting) bool { return !now.Before(w.expires) })
	sweep(q.admitted, func(entry string, a admitted) {
		if !now.Before(a.expires) {
			delete(q.admitted, entry)
		}
	})
	sweep(s.queues, func(name string, old *queue) {
		if old != q && len(old.entries) == 0 && len(old.admitted) == 0 {
			delete(s.queues, name)
		}
	})
	return q, before - len(q.entries)
}
