package node

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/node/internal/lease"
	"github.com/usher-broker/usher/proto"
)

// acquired is a session that this node may serve, and what an attach needs to know of
// how it came here.
type acquired struct {
	session *Session
	stream  string // name of the stream that begins if the one that the client names does not continue
	reset   string // why a stream that this node does not have cannot continue
}

// acquire finds or creates the session that the token names, and acquires its lease
// if the store can be asked: it looks the session up, decides whether this node may
// serve it, and asks the store. An error says with which code the client is closed.
func (n *Node) acquire(ctx context.Context, req attachRequest) (acquired, error) {
	s := n.lookUp(req.claims)
	if err := n.authorise(ctx, req.claims, s); err != nil {
		return acquired{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.StoreTimeout)
	defer cancel()
	defer n.leases.Acquiring()()
	got := acquired{session: s, stream: rand.Text()[:16]}
	var err error
	switch {
	case s != nil:
		err = n.acquireKnown(ctx, req, got)
	case req.stream == "":
		got.session, got.reset, err = n.acquireNew(ctx, req, got.stream)
	default:
		if got.session, got.reset, err = n.restoreSession(ctx, req); err == nil {
			err = n.acquireKnown(ctx, req, got)
		}
	}
	return got, err
}

// lookUp returns the session of the claims if this node holds it. If the session went
// to another node and came back, what this node has of it is outdated, and lookUp ends
// that.
func (n *Node) lookUp(claims proto.Claims) *Session {
	s := n.session(claims.Session)
	if s != nil && claims.Epoch > s.lease.Epoch {
		n.end(s, proto.CloseMoved, "", false)
		return nil
	}
	return s
}

// authorise returns nil if this node may serve the session of the claims, as far as it
// knows without the store. s is nil if the node does not hold the session.
func (n *Node) authorise(ctx context.Context, claims proto.Claims, s *Session) error {
	switch {
	case claims.Node != n.cfg.ID, s != nil && claims.Epoch < s.lease.Epoch:
		return closeWith(proto.CloseMoved)
	case n.draining.Load() && (s == nil || n.isStopping()):
		if s != nil { // its state must be stored before its client goes to another node
			ctx, cancel := context.WithTimeout(ctx, 2*n.cfg.StoreTimeout)
			defer cancel()
			if a, _ := n.startPersist(s, func() {}); a != nil {
				n.awaitPersisted(ctx, a)
			}
		}
		return closeWith(proto.CloseGoingAway)
	case s == nil && n.State() == proto.StateFull:
		return closeWith(proto.CloseFull)
	}
	return nil
}

// holder returns the lease that the claims name, as the store knows it.
func (n *Node) holder(claims proto.Claims) session.Lease {
	return n.leases.Holder(claims.Session, claims.Epoch)
}

// acquireNew acquires the lease of a session that this node does not hold, for a client
// that names no stream, and adds the session.
func (n *Node) acquireNew(ctx context.Context, req attachRequest, stream string) (s *Session, reset string, err error) {
	rec, err := n.cfg.Store.Attach(ctx, n.holder(req.claims), stream, !n.cfg.Checkpoint, req.proof, n.leaseTTL())
	if err == nil {
		s, reset, err = n.addAcquired(ctx, req, rec)
	}
	if err != nil {
		return nil, "", n.refusal(nil, req, rec, err)
	}
	n.leases.Confirm(&s.lease)
	return s, reset, s.useProof(req.proof)
}

// acquireKnown acquires the lease of a session that this node holds, or confirms it.
func (n *Node) acquireKnown(ctx context.Context, req attachRequest, got acquired) error {
	s := got.session
	name := got.stream
	if s.continues(req.stream) {
		name = req.stream
	}
	if s.lease.Confirmed() { // the stored state is from this node and is of no use to it
		return n.attachInStore(ctx, req, s, name, false)
	}
	// Acquiring the lease takes the stored state. This must not overlap with
	// persisting the state again.
	if !s.callbackLock.LockUntil(ctx) {
		return closeWith(proto.CloseInternal)
	}
	defer s.unlockCallbacks()
	if err := s.endError(); err != nil {
		return err // what this session has persisted is for the next owner
	}
	return n.attachInStore(ctx, req, s, name, !n.cfg.Checkpoint)
}

// attachInStore tells the store that this node serves the session with the stream.
// While the store is unavailable, or after it has lost its data, no other member can
// have moved or ended a session whose lease this node holds. Then the node serves it,
// and the lease keeper synchronizes with the store when it is available again.
func (n *Node) attachInStore(ctx context.Context, req attachRequest, s *Session, stream string, take bool) error {
	rec, err := n.cfg.Store.Attach(ctx, n.holder(req.claims), stream, take, req.proof, n.leaseTTL())
	switch {
	case err == nil:
		n.leases.Confirm(&s.lease)
		return s.useProof(req.proof)
	case s.lease.Confirmed() && (errors.Is(err, session.ErrUnavailable) || errors.Is(err, session.ErrNotFound)):
		if err := s.useProof(req.proof); err != nil {
			return err
		}
		n.metrics.storeSkipped.Inc()
		return nil
	}
	return n.refusal(s, req, rec, err)
}

// refusal returns how the client of a session is closed that this node may not serve
// according to the store. If s is not nil and has ended or belongs to another node,
// refusal ends it here.
func (n *Node) refusal(s *Session, req attachRequest, rec session.Record, err error) error {
	var how *closeError
	if errors.As(err, &how) {
		return how
	}
	how = lossOf(rec, err)
	switch {
	case how != nil:
	case errors.Is(err, session.ErrReplayed):
		return closeWith(proto.CloseStaleProof) // the session stays with its current connection
	case errors.Is(err, session.ErrNotFound):
		how = &closeError{code: proto.CloseUnknownSession}
	default:
		n.log.Warn("cannot acquire the lease of the session", "session", req.claims.Session, "error", err)
		return closeWith(proto.CloseInternal)
	}
	if s != nil {
		n.end(s, how.code, how.reason, false)
	}
	return how
}

// restoreSession adds the session with the state that another node, or an earlier
// start of this node, has persisted. It must not be served before its lease is
// acquired: until then the state remains in the store.
func (n *Node) restoreSession(ctx context.Context, req attachRequest) (s *Session, reset string, err error) {
	rec, found, err := n.cfg.Store.Restore(ctx, n.holder(req.claims))
	if err != nil {
		return nil, "", n.refusal(nil, req, rec, err)
	}
	stored := n.decodeState(rec, found)
	s, err = n.addSession(rec, req.claims, stored)
	return s, resetReason(rec, req.stream, stored), err
}

// addAcquired adds a session whose lease was just acquired, for a client that names
// no stream. If the session had a stream before, the store may have a snapshot.
func (n *Node) addAcquired(ctx context.Context, req attachRequest, rec session.Record) (s *Session, reset string, err error) {
	var stored *sessionState
	l := n.holder(req.claims)
	if mayHaveState(rec) {
		_, found, err := n.cfg.Store.Restore(ctx, l)
		if err != nil {
			return nil, "", err
		}
		stored = n.decodeState(rec, found)
		reset = resetReason(rec, "", stored)
	}
	if s, err = n.addSession(rec, req.claims, stored); err == nil {
		return s, reset, nil
	}
	if stored != nil { // the state was taken from the store but is not used: put it back for the next owner
		err = n.cfg.Store.Save(ctx, []session.Saved{{
			Lease: l, Stream: rec.Stream, State: stored.state, Seq: stored.seq + 1, TTL: n.leaseTTL(), Leave: true,
		}})[0]
		if err != nil {
			return nil, "", err
		}
	}
	return nil, "", closeWith(proto.CloseFull) // the client asks auth for another node
}

// mayHaveState reports whether the store may have the state of a session: not if it has
// never been attached. A stream that has overflowed leaves no name, but a state.
func mayHaveState(rec session.Record) bool {
	return rec.Stream != "" || rec.State != session.Assigned || rec.Epoch > 1
}

// resetReason returns why the stream that the client names, if any, does not continue
// in a session that this node did not hold. It returns "" if the stream continues, or
// if the client names none and none was lost. rec is the record before the attach.
func resetReason(rec session.Record, stream string, stored *sessionState) string {
	switch {
	case stored.continues(stream):
		return ""
	case rec.Stream != "" && (rec.Stream == stream || stream == "") && (stored == nil || !stored.HasStream):
		return proto.ResetNodeLost
	case stream != "" && stored != nil && stored.Lost == stream:
		return stored.Why
	case stream != "":
		return proto.ResetUnknown
	}
	return ""
}

// addSession creates the session of the record, with the stored state if there is
// one. If another attach has created it in the meantime, addSession returns that
// session. An error says with which code the client is closed if the node cannot hold
// the session.
func (n *Node) addSession(rec session.Record, claims proto.Claims, stored *sessionState) (*Session, error) {
	s := n.newSession(rec, stored)
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.sessions[s.ID]; old != nil {
		return old, nil
	}
	switch {
	case n.closed, n.draining.Load():
		return nil, closeWith(proto.CloseGoingAway)
	case len(n.sessions) >= n.cfg.MaxSessions:
		return nil, closeWith(proto.CloseFull)
	}
	n.sessions[s.ID] = s
	n.leases.Add(&s.lease, (*leaseOwner)(s))
	n.timers.Set(&s.timer, s.detached.Add(n.cfg.ResumeWindow)) // attach sets an earlier time
	n.arrivals++
	if len(n.arrivalsByIssuer) >= maxIssuers && n.arrivalsByIssuer[claims.Issuer] == 0 {
		clear(n.arrivalsByIssuer) // brokers see the count fall and start again from it
	}
	n.arrivalsByIssuer[claims.Issuer]++
	n.noteLoad()
	return s, nil
}

// newSession returns the session of the record, with the stored state if there is one.
func (n *Node) newSession(rec session.Record, stored *sessionState) *Session {
	s := &Session{
		ID: rec.ID, User: rec.User, Ext: rec.Ext,
		node: n, lease: lease.Lease{ID: rec.ID, Epoch: rec.Epoch}, pool: rec.Pool, region: rec.Region, group: rec.Group, created: rec.Created,
		detached: time.Now(), callbackLock: newCallbackLock(),
	}
	s.timer.Value = s
	if len(rec.Fallback) > 0 || rec.Strict {
		s.regions = &regions{rec.Fallback, rec.Strict}
	}
	if n.checkpoints {
		s.checkpoint = &checkpointState{}
	}
	if stored != nil {
		s.restore(stored)
	}
	s.used = at(time.Now())
	return s
}
