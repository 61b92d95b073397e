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

// Queue says how logins wait when every node is full. The zero value of a field
// means its default.
type Queue struct {
	// Limit is how many may wait in one line. Default 100,000.
	Limit int
	// Kept is how long a place is kept beyond the moment at which it should have
	// been asked for again. Default 15 s.
	Kept time.Duration
}

func (l Queue) withDefaults() Queue {
	l.Limit, l.Kept = cmp.Or(l.Limit, 100_000), cmp.Or(l.Kept, 15*time.Second)
	return l
}

// Waiting is what a login is told that has to wait.
type Waiting struct {
	Entry    string        // to be shown when it asks again
	Ahead    int           // how many come before it
	Waiting  int           // how many wait, with it
	Estimate time.Duration // how long it will take; 0 if there is no telling
	Again    time.Duration // when to ask again; the place is kept a little longer
}

const (
	// seatedFor is how long a place whose session was opened is remembered: the
	// answer may have been lost.
	seatedFor = time.Minute
	// lookEvery is how often the length of a line is looked up for those who come
	// new.
	lookEvery = 250 * time.Millisecond
)

// Enter is Assign for a cluster in which logins wait when every node is full:
// those who come first are let in first, at whatever broker they ask. place is ""
// at first, and then what the caller was told to show. Either there is an
// assignment, or Waiting has a place. The errors are those of Assign, of which
// placement.ErrNoCapacity says that the line is too long as well.
//
// A pool has one line, and one more for each set of regions that is strict.
func (b *Broker) Enter(ctx context.Context, req proto.AssignmentRequest, place string) (proto.Assignment, Waiting, error) {
	r, err := newRecord(req)
	if err != nil {
		return proto.Assignment{}, Waiting{}, err
	}
	line := lineOf(r)
	if place == "" {
		if !b.someWait(ctx, line) {
			a, err := b.Assign(ctx, req)
			if !errors.Is(err, placement.ErrNoCapacity) {
				return a, Waiting{}, err
			}
		}
		return b.queue(ctx, line, rand.Text(), r, req, Queued)
	}
	return b.queue(ctx, line, place, r, req, Kept)
}

// queue lets the place in if its turn has come, or has it wait.
func (b *Broker) queue(ctx context.Context, line, place string, r session.Record, req proto.AssignmentRequest, what Waited) (proto.Assignment, Waiting, error) {
	p, err := b.store.Wait(ctx, line, place, b.cfg.Issuer, b.cfg.Queue.Kept+longestPoll)
	if err != nil {
		return proto.Assignment{}, Waiting{}, fmt.Errorf("waiting for room: %w", err)
	}
	b.lines.saw(line, p.Waiting, b.cfg.Now())
	for range p.GivenUp {
		b.hooks.Waited(r.Pool, Abandoned, p.Waiting)
	}
	switch {
	case p.Session != "":
		return b.again(ctx, r, p.Session, req.Confirm)
	case what == Queued && p.Waiting > b.cfg.Queue.Limit:
		b.giveUp(ctx, line, place, r.Pool, p.Waiting)
		return proto.Assignment{}, Waiting{}, fmt.Errorf("%d wait for room already: %w", p.Waiting-1, placement.ErrNoCapacity)
	case p.Ahead < b.room(r)-p.Recent: // what others have just opened may not show yet
		a, err := b.Assign(ctx, req)
		if err == nil {
			b.hooks.Waited(r.Pool, Admitted, p.Waiting-1)
			b.lines.saw(line, p.Waiting-1, b.cfg.Now())
			// Should this fail, the place is given up after a while.
			_ = b.store.Admit(ctx, line, place, a.Session, b.cfg.Issuer, seatedFor)
			return a, Waiting{}, nil
		}
		if !errors.Is(err, placement.ErrNoCapacity) {
			if !errors.Is(err, session.ErrUnavailable) && !errors.Is(err, placement.ErrNoNodes) {
				b.giveUp(ctx, line, place, r.Pool, p.Waiting)
			}
			return proto.Assignment{}, Waiting{}, err
		}
	}
	b.hooks.Waited(r.Pool, what, p.Waiting)
	w := Waiting{Entry: place, Ahead: p.Ahead, Waiting: p.Waiting, Again: pollAfter(p.Ahead)}
	if p.Rate > 1e-3 {
		w.Estimate = time.Duration(float64(p.Ahead+1) / p.Rate * float64(time.Second))
	}
	return proto.Assignment{}, w, nil
}

func (b *Broker) giveUp(ctx context.Context, line, place, pool string, waiting int) {
	b.hooks.Waited(pool, TurnedOff, waiting-1)
	_ = b.store.Admit(ctx, line, place, "", b.cfg.Issuer, seatedFor) // or it is given up after a while
}

// again answers for a place whose session was opened, to a client that has not
// heard of it.
func (b *Broker) again(ctx context.Context, r session.Record, sid string, key proto.Confirmation) (proto.Assignment, Waiting, error) {
	a, err := b.Reassign(ctx, proto.Claims{Session: sid, User: r.User, Confirm: key}, "")
	return a, Waiting{}, err
}

// lineOf names the line of those who want the same.
func lineOf(r session.Record) string {
	if !r.Strict {
		return r.Pool
	}
	regions := append([]string{r.Region}, r.Fallback...)
	slices.Sort(regions)
	return r.Pool + "\n" + strings.Join(regions, "\n")
}

const longestPoll = 10 * time.Second

// pollAfter is when to ask again: those who are next soon, those far behind
// seldom, and not all together.
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

// room is how many sessions like the record's the nodes can take.
func (b *Broker) room(r session.Record) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.table.Room(b.cfg.Now(), hints(r, ""))
}

// lines is what is known of the lengths of lines.
type lines struct {
	mu sync.Mutex
	by map[string]seen
}

type seen struct {
	waiting int
	at      time.Time
}

// maxLines bounds the lines that are remembered.
const maxLines = 1000

func (l *lines) saw(line string, waiting int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil || len(l.by) >= maxLines {
		l.by = map[string]seen{}
	}
	l.by[line] = seen{waiting, now}
}

func (l *lines) last(line string) (seen, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.by[line]
	return s, ok
}

// someWait reports whether there is a line, so that whoever comes now has to go
// to its end. If the store does not say, there is none: the login itself fails.
func (b *Broker) someWait(ctx context.Context, line string) bool {
	now := b.cfg.Now()
	s, ok := b.lines.last(line)
	if !ok || now.Sub(s.at) >= lookEvery {
		p, err := b.store.Wait(ctx, line, "", b.cfg.Issuer, 0)
		if err != nil {
			return false
		}
		s = seen{p.Waiting, now}
		b.lines.saw(line, p.Waiting, now)
	}
	return s.waiting > 0
}
