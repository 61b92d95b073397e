package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// acquire finds or creates the session that the token names, and acquires its lease
// if the store can be asked. A code other than 0 says why this node cannot serve the
// client.
func (n *Node) acquire(ctx context.Context, req *attachRequest) (*Session, proto.CloseCode) {
	claims := req.claims
	s := n.session(claims.Session)
	if s != nil && claims.Epoch > s.epoch {
		// The session went to another node and came back. What this node has of it is
		// outdated.
		n.end(s, proto.CloseMoved, "", false)
		s = nil
	}
	switch {
	case claims.Node != n.cfg.ID, s != nil && claims.Epoch < s.epoch:
		return nil, proto.CloseMoved
	case n.draining.Load() && (s == nil || n.isStopping()):
		if s != nil { // its state must be stored before its client goes to another node
			ctx, cancel := context.WithTimeout(ctx, 2*n.cfg.StoreTimeout)
			defer cancel()
			if a, _ := n.startPersist(s, func() {}); a != nil {
				n.awaitPersisted(ctx, a)
			}
		}
		return nil, proto.CloseGoingAway
	case s == nil && n.State() == proto.StateFull:
		return nil, proto.CloseFull
	}

	ctx, cancel := context.WithTimeout(ctx, n.cfg.StoreTimeout)
	defer cancel()
	req.newStream = rand.Text()[:16]
	lease := session.Lease{ID: claims.Session, Node: n.cfg.ID, Epoch: claims.Epoch, Instance: n.instance}
	if s == nil && req.stream != "" {
		var code proto.CloseCode
		if s, code = n.restoreSession(ctx, lease, req); code != 0 {
			return nil, code
		}
	}
	name, take := req.newStream, !n.cfg.Checkpoint
	if s != nil && s.continues(req.stream) {
		name = req.stream
	}
	if s != nil && s.isLeased() {
		take = false // the stored state is from this node and is of no use to it
	} else if s != nil {
		// Acquiring the lease takes the stored state. This must not overlap with
		// persisting the state again.
		if !s.callbackLock.LockUntil(ctx) {
			return nil, proto.CloseInternal
		}
		defer s.callbackLock.Unlock()
		if code := s.endedCode(); code != 0 {
			return nil, code // what this session has persisted is for the next owner
		}
	}
	rec, err := n.cfg.Store.Attach(ctx, lease, name, take, req.proof, n.leaseTTL())
	if err == nil && s == nil {
		s, err = n.addAcquired(ctx, lease, rec, req)
	}
	switch {
	case err == nil && s == nil:
		return nil, proto.CloseFull
	case err == nil:
		s.setLeased()
		return s, s.checkProof(req.proof)
	case s != nil && s.isLeased() && (errors.Is(err, session.ErrUnavailable) || errors.Is(err, session.ErrNotFound)):
		// While the store is unavailable, or after it has lost its data, no other member
		// can have moved or ended the session. The lease renewer synchronizes with the
		// store when it is available again.
		if code := s.checkProof(req.proof); code != 0 {
			return nil, code
		}
		n.metrics.storeSkipped.Inc()
		return s, 0
	}
	return nil, n.refusalCode(s, rec, err, req)
}

// refusalCode returns the close code for a session that this node may not serve
// according to the store. If s is not nil and has ended or belongs to another node,
// refusalCode ends it here.
func (n *Node) refusalCode(s *Session, rec session.Record, err error, req *attachRequest) proto.CloseCode {
	code := proto.CloseInternal
	switch {
	case errors.Is(err, session.ErrEnded):
		code, req.closeReason = cmp.Or(rec.Reason, proto.CloseSessionEnded), rec.CloseReason
	case errors.Is(err, session.ErrMoved):
		code = proto.CloseMoved
	case errors.Is(err, session.ErrReplayed):
		return proto.CloseStaleProof // the session stays with its current connection
	case errors.Is(err, session.ErrNotFound):
		code = proto.CloseUnknownSession
	default:
		n.log.Warn("cannot acquire the lease of the session", "session", req.claims.Session, "error", err)
		return code
	}
	if s != nil {
		n.end(s, code, req.closeReason, false)
	}
	return code
}

// restoreSession adds the session with the state that another node, or an earlier
// start of this node, has persisted. It must not be served before its lease is
// acquired: until then the state remains in the store.
func (n *Node) restoreSession(ctx context.Context, l session.Lease, req *attachRequest) (*Session, proto.CloseCode) {
	rec, found, err := n.cfg.Store.Restore(ctx, l)
	if err != nil {
		return nil, n.refusalCode(nil, rec, err, req)
	}
	stored := n.decodeState(rec, found)
	req.resetReason = resetReason(rec, req.stream, stored)
	return n.addSession(rec, req.claims, stored)
}

// addAcquired adds a session whose lease was just acquired, for a client that names
// no stream. If the session had a stream before, the store may have a snapshot.
func (n *Node) addAcquired(ctx context.Context, l session.Lease, rec session.Record, req *attachRequest) (*Session, error) {
	var stored *sessionState
	if rec.Stream != "" {
		_, found, err := n.cfg.Store.Restore(ctx, l)
		if err != nil {
			return nil, err
		}
		stored = n.decodeState(rec, found)
		req.resetReason = resetReason(rec, "", stored)
	}
	s, _ := n.addSession(rec, req.claims, stored)
	if s == nil && stored != nil { // the state was taken from the store but is not used: put it back for the next owner
		return nil, n.cfg.Store.Save(ctx, []session.Saved{{
			Lease: l, Stream: rec.Stream, State: stored.state, Seq: stored.seq + 1, TTL: n.leaseTTL(), Leave: true,
		}})[0]
	}
	return s, nil
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

// leaseTTL returns how long the store keeps a session that this node serves without a
// renewal. It is long enough that the record outlives a crash of the node by the
// resume window.
func (n *Node) leaseTTL() time.Duration { return n.cfg.ResumeWindow + 3*n.cfg.RenewInterval }

// addSession creates the session of the record, with the stored state if there is
// one. If another attach has created it in the meantime, addSession returns that
// session. A code other than 0 says why the node cannot hold the session.
func (n *Node) addSession(rec session.Record, claims proto.Claims, stored *sessionState) (*Session, proto.CloseCode) {
	s := &Session{
		ID: rec.ID, User: rec.User, Ext: rec.Ext,
		node: n, epoch: rec.Epoch, pool: rec.Pool, region: rec.Region, group: rec.Group, created: rec.Created,
		detached: time.Now(), callbackLock: newCallbackLock(),
	}
	if len(rec.Fallback) > 0 || rec.Strict {
		s.regions = &regions{rec.Fallback, rec.Strict}
	}
	if _, mover := n.cfg.App.(Mover); mover || n.cfg.Checkpoint {
		s.checkpoint = &checkpointState{}
	}
	if stored != nil {
		s.restore(stored)
	}
	s.used = at(time.Now())
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.sessions[s.ID]; old != nil {
		return old, 0
	}
	switch {
	case n.closed, n.draining.Load():
		return nil, proto.CloseGoingAway
	case len(n.sessions) >= n.cfg.MaxSessions:
		return nil, proto.CloseFull
	}
	n.sessions[s.ID] = s
	n.noteLoad()
	n.arrivals++
	if len(n.arrivalsByIssuer) >= maxIssuers && n.arrivalsByIssuer[claims.Issuer] == 0 {
		clear(n.arrivalsByIssuer) // brokers see the count fall and start again from it
	}
	n.arrivalsByIssuer[claims.Issuer]++
	return s, 0
}

// continues reports whether the named stream is the current stream of the session.
func (s *Session) continues(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return name != "" && name == s.name
}

// attach makes c the connection of the session in place of any other, resumes the
// stream or starts a new one, and notifies the App. A code other than 0 says why the
// client cannot have the session; the caller then closes c.
func (c *conn) attach(s *Session, req attachRequest) proto.CloseCode {
	n := s.node
	s.mu.Lock()
	if s.frozen { // the client must not reach the next node before its stream
		s.mu.Unlock()
		if !s.awaitMove() {
			return proto.CloseInternal
		}
		s.mu.Lock()
	}
	if s.endCode != 0 {
		defer s.mu.Unlock()
		return s.endCode
	}
	old := s.conn
	resumed := req.stream != "" && req.stream == s.name
	if s.isOutdated(req, resumed) {
		s.mu.Unlock()
		return proto.CloseReplaced
	}
	if resumed {
		if err := s.stream.Ack(req.received); err != nil {
			s.mu.Unlock()
			return proto.CloseProtocolError
		}
		s.stream.Resumed()
	}
	reset := s.beginStream(req, resumed)
	c.session = s
	s.client, s.attempt, s.token = req.client, req.attempt, req.fingerprint
	c.out.Begin(s.stream)
	c.urgent = n.welcome(s, req, resumed, reset)
	c.pingAt = time.Now().Add(n.cfg.PingInterval)
	s.conn = c
	s.recount()
	moved := s.moved
	s.moved = false
	s.renewAt = time.Time{}
	if at(time.Now()) > s.leaving {
		s.leaving = 0 // the client came back after the deadline, so it was assigned here again
	}
	if n.cfg.Checkpoint {
		n.checkpointer.add(s)
		c.awaitsCheckpoint = s.checkpoint.coveringSeq()
	}
	if old != nil {
		old.shut(proto.CloseReplaced)
	} else {
		n.attached.Add(1)
	}
	writeHere := c.becomeWriter()
	s.mu.Unlock()
	if writeHere {
		c.writeNow()
	}
	n.metrics.attaches.WithLabelValues(attachResult(resumed, reset, old != nil, moved)).Inc()
	if n.logsInfo() {
		n.log.Info("attached", "session", s.ID, "user", s.User, "resumed", resumed, "reset", reset, "replaced", old != nil, "moved", moved)
	}
	c.notifyAttached(resumed)
	return 0
}

// isOutdated reports whether the handshake was delayed on its way, and the last
// connection is from a later attempt of the same client. The caller holds s.mu.
func (s *Session) isOutdated(req attachRequest, resumed bool) bool {
	if req.attempt == nil || s.attempt == nil || *req.attempt >= *s.attempt {
		return false
	}
	if req.client != "" && s.client != "" {
		return req.client == s.client
	}
	return s.conn != nil && resumed // attempts of clients without a name are compared within a stream
}

func attachResult(resumed bool, reset string, replaced, moved bool) string {
	switch {
	case resumed && moved:
		return "moved"
	case resumed && replaced:
		return "taken_over"
	case resumed:
		return "resumed"
	case reset != "":
		return "reset"
	}
	return "new"
}

// beginStream starts a new stream unless the current one continues. It returns why
// the stream that the client named does not continue. The caller holds s.mu.
func (s *Session) beginStream(req attachRequest, resumed bool) (reset string) {
	if resumed {
		return ""
	}
	switch {
	case req.resetReason != "":
		reset = req.resetReason
	case req.stream != "" && req.stream == s.prevName:
		reset = s.prevWhy
	case req.stream != "":
		reset = proto.ResetUnknown
	}
	if reset != "" {
		s.node.metrics.resets.WithLabelValues(reset).Inc()
	}
	switch {
	case s.name != "" || reset == proto.ResetNodeLost:
		s.addPendingReset(reset, s.endStream(proto.ResetUnknown))
	case s.prevName != "": // the stream overflowed: the App waits for the client
		s.addPendingReset(reset, nil)
	}
	s.name = req.newStream
	s.stream = &stream.Stream{Limits: s.node.streamLimits()}
	if s.checkpoint != nil {
		s.checkpoint.released, s.checkpoint.handled = 0, 0
	}
	return reset
}

func (n *Node) streamLimits() stream.Limits {
	return stream.Limits{Messages: n.cfg.Limits.UnackedMessages, Bytes: n.cfg.Limits.UnackedBytes}
}

func (n *Node) isStopping() bool {
	select {
	case <-n.stopping:
		return true
	default:
		return false
	}
}

// welcome returns the first message of a connection. The caller holds s.mu.
func (n *Node) welcome(s *Session, req attachRequest, resumed bool, reset string) []byte {
	w := proto.Welcome{
		Session: s.ID, Stream: s.name, Node: n.cfg.ID,
		Resumed: resumed, Received: s.stream.Received(),
		PingIntervalMS:     n.cfg.PingInterval.Milliseconds(),
		ResumeWindowMS:     n.cfg.ResumeWindow.Milliseconds(),
		MaxMessageBytes:    n.cfg.Limits.MessageBytes,
		MaxUnackedBytes:    n.cfg.Limits.UnackedBytes,
		MaxUnackedMessages: n.cfg.Limits.UnackedMessages,
		TokenExpiresAt:     time.Unix(req.claims.Expires, 0).UTC(),
	}
	if req.stream != "" {
		w.Reason = reset
	}
	return proto.AppendControl(nil, proto.Control{Type: proto.TypeWelcome, Welcome: w})
}

// notifyAttached notifies the App of the new connection. If two connections follow
// each other closely, the App is notified of the later one, whichever goroutine comes
// first.
func (c *conn) notifyAttached(resumed bool) {
	s := c.session
	s.callbackLock.Lock()
	defer s.callbackLock.Unlock()
	if s.endedCode() != 0 {
		return // endWith notifies the App of everything pending before Closed
	}
	mine := s.owns(c)
	if mine && s.appAttached {
		s.notifyDetached()
	}
	s.ensureOpened()
	wasReset := s.notifyPendingReset()
	if mine {
		s.appAttached = true
		if resumed && !wasReset {
			s.notifyResumed()
		}
	}
}

// owns reports whether c is the connection of the session.
func (s *Session) owns(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn == c
}
