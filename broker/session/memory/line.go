package memory

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// line is the places that wait, the first one first.
type line struct {
	places []waiting
	seated map[string]seat
	lately []seating // oldest first
	rate   float64   // as of counted
	when   time.Time
}

type waiting struct {
	place string
	until time.Time
}

type seating struct {
	by   string
	when time.Time
}

type seat struct {
	sid   string
	until time.Time
}

func (l *line) index(place string) int {
	return slices.IndexFunc(l.places, func(w waiting) bool { return w.place == place })
}

// rateAt is the exponential average of the places seated a second.
func (l *line) rateAt(now time.Time) float64 {
	if l.rate == 0 {
		return 0
	}
	return l.rate * math.Exp(-now.Sub(l.when).Seconds()/session.QueueRate.Seconds())
}

// Wait implements session.Store.
func (s *Store) Wait(ctx context.Context, name, place, by string, ttl time.Duration) (session.QueueStatus, error) {
	if err := s.lock(ctx); err != nil {
		return session.QueueStatus{}, err
	}
	defer s.mu.Unlock()
	now := s.now()
	l, gone := s.line(name, now)
	p := session.QueueStatus{Waiting: len(l.places), Rate: l.rateAt(now), GivenUp: gone}
	for _, s := range l.lately {
		if s.by != by {
			p.Recent++
		}
	}
	if t, ok := l.seated[place]; ok {
		p.Session = t.sid
		return p, nil
	}
	i := l.index(place)
	switch {
	case place == "":
		i = len(l.places)
	case i < 0:
		i = len(l.places)
		l.places = append(l.places, waiting{place, now.Add(ttl)})
	default:
		l.places[i].until = now.Add(ttl)
	}
	p.Ahead, p.Waiting = i, len(l.places)
	return p, nil
}

// Seat implements session.Store.
func (s *Store) Admit(ctx context.Context, name, place, sid, by string, ttl time.Duration) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	now := s.now()
	l, _ := s.line(name, now)
	if i := l.index(place); i >= 0 {
		l.places = slices.Delete(l.places, i, i+1)
	}
	if sid == "" {
		return nil
	}
	l.rate = l.rateAt(now) + 1/session.QueueRate.Seconds()
	l.when = now
	l.seated[place] = seat{sid, now.Add(ttl)}
	l.lately = append(l.lately, seating{by, now})
	return nil
}

// line returns the line as it is now, and how many places were given up just now.
// s.mu is held.
func (s *Store) line(name string, now time.Time) (*line, int) {
	l := s.lines[name]
	if l == nil {
		l = &line{seated: map[string]seat{}}
		s.lines[name] = l
	}
	l.lately = slices.DeleteFunc(l.lately, func(s seating) bool { return now.Sub(s.when) >= session.QueueRecent })
	before := len(l.places)
	l.places = slices.DeleteFunc(l.places, func(w waiting) bool { return !now.Before(w.until) })
	sweep(l.seated, func(place string, t seat) {
		if !now.Before(t.until) {
			delete(l.seated, place)
		}
	})
	sweep(s.lines, func(name string, old *line) {
		if old != l && len(old.places) == 0 && len(old.seated) == 0 {
			delete(s.lines, name)
		}
	})
	return l, before - len(l.places)
}
