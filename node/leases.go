package node

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// leaseRenewer keeps the store up to date about the sessions that the node holds:
// that they are alive, attached or detached, and that they have ended. It works in
// the background, in batches, so a slow or unavailable store delays no session. It
// repeats what the store has not confirmed.
type leaseRenewer struct {
	node *Node

	mu          sync.Mutex
	pendingEnds map[string]pendingEnd // sessions that have ended, and the store does not know yet
	down        bool

	lastFenced *string // the last result of Fenced; used by sync only
}

// pendingEnd is the end of a session, under the epoch that it had here.
type pendingEnd struct {
	epoch uint64
	code  proto.CloseCode
}

const renewBatch = 512

func newLeaseRenewer(n *Node) *leaseRenewer {
	return &leaseRenewer{node: n, pendingEnds: make(map[string]pendingEnd)}
}

// end queues the end of the session for the store.
func (l *leaseRenewer) end(s *Session, code proto.CloseCode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pendingEnds[s.ID] = pendingEnd{s.epoch, code}
}

func (l *leaseRenewer) run(ctx context.Context) {
	t := time.NewTicker(l.node.cfg.tick())
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			l.sync(ctx, now)
		}
	}
}

// sync writes to the store everything that it should know by now. It stops when the
// store becomes unavailable.
func (l *leaseRenewer) sync(ctx context.Context, now time.Time) {
	if !l.pingStore(ctx) {
		return
	}
	if l.lostRecords(ctx) {
		l.node.log.Warn("store has lost records; writing them again")
		l.node.metrics.storeLost.Inc()
		l.node.renewAll()
	}
	if l.fenceChanged(ctx) {
		l.node.log.Info("another member may have taken sessions of this node; asking the store")
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
	_ = l.sendEnds(ctx) // sync sends again what the store did not take
}

// endsAtOnce bounds the calls to end sessions that are in progress.
const endsAtOnce = 32

// sendEnds ends in the store the sessions that have ended here. It returns the first
// error of an unavailable store; the store may not know the remaining ends then.
func (l *leaseRenewer) sendEnds(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(endsAtOnce)
	for id, e := range l.copyPendingEnds() {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, l.node.cfg.StoreTimeout)
			defer cancel()
			_, err := l.node.cfg.Store.End(ctx, id, e.epoch, e.code, "", l.node.cfg.TombstoneTTL)
			if errors.Is(err, session.ErrUnavailable) {
				return err
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.pendingEnds[id] == e { // the session may have come back and ended again meanwhile
				delete(l.pendingEnds, id)
			}
			return nil
		})
	}
	return g.Wait()
}

// endRetry is the time between two attempts of flushEnds.
const endRetry = 100 * time.Millisecond

// flushEnds is sendEnds until the store knows all ends or ctx ends. Then it returns
// the cause of ctx.
func (l *leaseRenewer) flushEnds(ctx context.Context) error {
	for {
		err := l.sendEnds(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			l.node.log.Warn("the store does not know that sessions have ended; their users may have to wait until the records expire",
				"sessions", len(l.copyPendingEnds()), "error", err)
			return context.Cause(ctx)
		case <-time.After(endRetry):
		}
	}
}

func (l *leaseRenewer) pingStore(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, l.node.cfg.StoreTimeout)
	defer cancel()
	err := l.node.cfg.Store.Ping(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if down := err != nil; down != l.down {
		l.down = down
		if down {
			l.node.log.Warn("store unavailable; still serving attached sessions", "error", err)
		} else {
			l.node.log.Info("store available again")
			l.node.renewAll() // the store may have lost records
		}
	}
	return err == nil
}

// lostRecords reports whether the store has lost records: it looks up a few of the
// sessions held. pingStore does not notice a store that restarts quickly without its
// data.
func (l *leaseRenewer) lostRecords(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, l.node.cfg.StoreTimeout)
	defer cancel()
	for _, id := range l.node.sampleIDs(3) {
		if _, err := l.node.cfg.Store.Get(ctx, id); errors.Is(err, session.ErrNotFound) {
			return true
		}
	}
	return false
}

// fenceChanged reports whether another member has ended or reassigned sessions of
// this node without reaching it.
func (l *leaseRenewer) fenceChanged(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, l.node.cfg.StoreTimeout)
	defer cancel()
	text, err := l.node.cfg.Store.Fenced(ctx, l.node.cfg.ID)
	if err != nil {
		return false // checked again at the next tick
	}
	news := l.lastFenced != nil && *l.lastFenced != text
	l.lastFenced = &text
	return news
}

// sampleIDs returns the ids of a few sessions, different ones each time.
func (n *Node) sampleIDs(count int) []string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	var ids []string
	for id := range n.sessions { // starts at a random place
		if ids = append(ids, id); len(ids) == count {
			break
		}
	}
	return ids
}

func (l *leaseRenewer) copyPendingEnds() map[string]pendingEnd {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.pendingEnds)
}

// renewAll makes all sessions due for renewal.
func (n *Node) renewAll() {
	for _, s := range n.all() {
		s.mu.Lock()
		s.renewAt = time.Time{}
		s.mu.Unlock()
	}
}

func (l *leaseRenewer) due(now time.Time) []*Session {
	var due []*Session
	for _, s := range l.node.all() {
		s.mu.Lock()
		if !now.Before(s.renewAt) && s.phase != ended {
			due = append(due, s)
		}
		s.mu.Unlock()
	}
	return due
}

// renew renews a batch of leases, and ends the sessions that have ended or belong to
// another node according to the store. It returns the sessions for which the store
// gave no answer.
func (l *leaseRenewer) renew(ctx context.Context, batch []*Session, now time.Time) (unanswered []*Session) {
	n := l.node
	records := make([]session.Record, len(batch))
	ttls := make([]time.Duration, len(batch))
	for i, s := range batch {
		records[i], ttls[i] = s.record(now)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*n.cfg.StoreTimeout) // longer than usual: it is a batch, and no client waits for it
	defer cancel()
	for i, err := range n.cfg.Store.Renew(ctx, records, ttls) {
		s := batch[i]
		switch {
		case err == nil:
			s.markRenewed(records[i], now.Add(n.cfg.RenewInterval))
		case n.endIfLost(ctx, s, err):
		default:
			n.metrics.renewFailed.Inc()
		}
		if errors.Is(err, session.ErrUnavailable) {
			unanswered = append(unanswered, s)
		}
	}
	return unanswered
}

// endIfLost ends a session, and returns true, if the error of the store says that it
// has ended or belongs to another node.
func (n *Node) endIfLost(ctx context.Context, s *Session, err error) bool {
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

// record returns what the store should know about the session, and the ttl of its
// record.
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
	// A little longer than the window: this node closes the window and ends the
	// session in the store.
	r.State = session.Detached
	return r, max(s.node.cfg.ResumeWindow-now.Sub(s.detached), 0) + s.node.cfg.RenewInterval
}

// markRenewed sets the time of the next renewal, unless the session has changed since
// the record was made.
func (s *Session) markRenewed(r session.Record, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if (s.conn != nil) == (r.State == session.Attached) && (s.leaving != 0) == r.Leaving {
		s.renewAt = next
	}
}

// isDown reports whether the store did not answer the last ping.
func (l *leaseRenewer) isDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}
