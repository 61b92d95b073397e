package node

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// ledger keeps the store informed of the sessions the node holds: that they
// are alive, attached or detached, and ended. It works behind the sessions, in
// batches, so that a store that is slow or away holds up nobody; it repeats
// what the store has not heard.
type ledger struct {
	node *Node

	mu   sync.Mutex
	ends map[string]ending // sessions that are over, and the store does not know
	down bool

	fenced *string // what Fenced returned last; of write alone
}

// ending is the end of a session, under the epoch that it had here.
type ending struct {
	epoch uint64
	code  proto.CloseCode
}

const renewBatch = 512

func newLedger(n *Node) *ledger {
	return &ledger{node: n, ends: make(map[string]ending)}
}

// end sees to it that the store hears that the session is over.
func (l *ledger) end(s *Session, code proto.CloseCode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends[s.ID] = ending{s.epoch, code}
}

func (l *ledger) run(ctx context.Context) {
	t := time.NewTicker(l.node.cfg.tick())
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			l.write(ctx, now)
		}
	}
}

// write tells the store everything it should know by now. It stops at the
// first sign that the store is away.
func (l *ledger) write(ctx context.Context, now time.Time) {
	if !l.reachable(ctx) {
		return
	}
	if l.forgotten(ctx) {
		l.node.log.Warn("store has lost records; they are written anew")
		l.node.metrics.storeLost.Inc()
		l.node.renewAll()
	}
	if l.isFenced(ctx) {
		l.node.log.Info("some of the sessions held here may have gone elsewhere; the store is asked")
		l.node.renewAll()
	}
	due := l.due(now)
	for len(due) > 0 {
		batch := due[:min(renewBatch, len(due))]
		due = due[len(batch):]
		if len(l.renew(ctx, batch, now)) == len(batch) {
			return
		}
	}
	for id, e := range l.pending() {
		ctx, cancel := context.WithTimeout(ctx, l.node.cfg.StoreTimeout)
		_, err := l.node.cfg.Store.End(ctx, id, e.epoch, e.code, "", l.node.cfg.TombstoneTTL)
		cancel()
		if errors.Is(err, session.ErrUnavailable) {
			return
		}
		l.mu.Lock()
		delete(l.ends, id)
		l.mu.Unlock()
	}
}

func (l *ledger) reachable(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, l.node.cfg.StoreTimeout)
	defer cancel()
	err := l.node.cfg.Store.Ping(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if down := err != nil; down != l.down {
		l.down = down
		if down {
			l.node.log.Warn("store is away; attached sessions are served on", "error", err)
		} else {
			l.node.log.Info("store is back")
			l.node.renewAll() // it may have lost what it knew
		}
	}
	return err == nil
}

// forgotten reports whether the store has lost what it was told: it looks for a
// few of the sessions held. A store that comes back without its data within a
// moment has not been seen to be away.
func (l *ledger) forgotten(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, l.node.cfg.StoreTimeout)
	defer cancel()
	for _, id := range l.node.some(3) {
		if _, err := l.node.cfg.Store.Get(ctx, id); errors.Is(err, session.ErrNotFound) {
			return true
		}
	}
	return false
}

// isFenced reports whether others have ended or taken sessions of this node and
// could not tell it.
func (l *ledger) isFenced(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, l.node.cfg.StoreTimeout)
	defer cancel()
	text, err := l.node.cfg.Store.Fenced(ctx, l.node.cfg.ID)
	if err != nil {
		return false // the next time
	}
	news := l.fenced != nil && *l.fenced != text
	l.fenced = &text
	return news
}

// some returns the ids of a few sessions, others each time.
func (n *Node) some(few int) []string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	var ids []string
	for id := range n.sessions { // begins at a random place
		if ids = append(ids, id); len(ids) == few {
			break
		}
	}
	return ids
}

func (l *ledger) pending() map[string]ending {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.ends)
}

// renewAll has every session renewed at the next occasion.
func (n *Node) renewAll() {
	for _, s := range n.all() {
		s.mu.Lock()
		s.renewAt = time.Time{}
		s.mu.Unlock()
	}
}

func (l *ledger) due(now time.Time) []*Session {
	var due []*Session
	for _, s := range l.node.all() {
		s.mu.Lock()
		if !now.Before(s.renewAt) && s.endCode == 0 {
			due = append(due, s)
		}
		s.mu.Unlock()
	}
	return due
}

// renew renews a batch and lets go of the sessions that the store says are
// over or another's. It returns those of which the store said nothing.
func (l *ledger) renew(ctx context.Context, batch []*Session, now time.Time) (unanswered []*Session) {
	n := l.node
	records := make([]session.Record, len(batch))
	ttls := make([]time.Duration, len(batch))
	for i, s := range batch {
		records[i], ttls[i] = s.record(now)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*n.cfg.StoreTimeout) // a batch, and nobody waits for it
	defer cancel()
	for i, err := range n.cfg.Store.Renew(ctx, records, ttls) {
		s := batch[i]
		switch {
		case err == nil:
			s.renewed(records[i], now.Add(n.cfg.RenewInterval))
		case n.lost(ctx, s, err):
		default:
			n.metrics.renewFailed.Inc()
		}
		if errors.Is(err, session.ErrUnavailable) {
			unanswered = append(unanswered, s)
		}
	}
	return unanswered
}

// lost lets go of a session if the store's error says that it is over or
// another node's.
func (n *Node) lost(ctx context.Context, s *Session, err error) bool {
	switch {
	case errors.Is(err, session.ErrMoved):
		n.end(s, proto.CloseMoved, "", false)
		return true
	case errors.Is(err, session.ErrEnded):
		rec, _ := n.cfg.Store.Get(ctx, s.ID)
		n.end(s, cmp.Or(rec.Reason, proto.CloseSessionEnded), rec.CloseReason, false)
		return true
	}
	return false
}

// record returns what the store should know of the session, and for how long.
func (s *Session) record(now time.Time) (session.Record, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := session.Record{
		ID: s.ID, User: s.User, Node: s.node.cfg.ID, Epoch: s.epoch, State: session.Attached, Stream: s.name,
		Pool: s.pool, Region: s.region, Group: s.group, Ext: s.Ext, Created: s.created,
		Leaving: s.leaving != 0,
	}
	if s.regions != nil {
		r.Fallback, r.Strict = s.regions.fallback, s.regions.strict
	}
	if s.conn != nil {
		return r, s.node.leaseTTL()
	}
	// A little longer than the window: it is this node that closes it, and
	// says so to the store.
	r.State = session.Detached
	return r, max(s.node.cfg.ResumeWindow-now.Sub(s.detached), 0) + s.node.cfg.RenewInterval
}

// renewed notes that the store knows the session as the record has it, unless
// that has changed since.
func (s *Session) renewed(r session.Record, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if (s.conn != nil) == (r.State == session.Attached) && (s.leaving != 0) == r.Leaving {
		s.renewAt = next
	}
}

// isDown reports whether the store did not answer when it was last asked.
func (l *ledger) isDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}
