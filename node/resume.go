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

// claim finds or makes the session that the token names and makes sure, as far
// as the store can be asked, that this node owns it. A code other than 0 says
// why the client cannot be served here.
func (n *Node) claim(ctx context.Context, want *want) (*Session, proto.CloseCode) {
	claims := want.claims
	s := n.session(claims.Session)
	if s != nil && claims.Epoch > s.epoch {
		// The session went to another node and came back: what this node
		// remembers of it is of the past.
		n.end(s, proto.CloseMoved, "", false)
		s = nil
	}
	switch {
	case claims.Node != n.cfg.ID, s != nil && claims.Epoch < s.epoch:
		return nil, proto.CloseMoved
	case n.draining.Load() && (s == nil || n.isStopping()):
		if s != nil { // before its client goes elsewhere
			ctx, cancel := context.WithTimeout(ctx, 2*n.cfg.StoreTimeout)
			defer cancel()
			n.park(ctx, s)
		}
		return nil, proto.CloseGoingAway
	case s == nil && n.State() == proto.StateFull:
		return nil, proto.CloseFull
	}

	ctx, cancel := context.WithTimeout(ctx, n.cfg.StoreTimeout)
	defer cancel()
	want.fresh = rand.Text()[:16]
	lease := session.Lease{ID: claims.Session, Node: n.cfg.ID, Epoch: claims.Epoch, Instance: n.instance}
	if s == nil && want.stream != "" {
		var code proto.CloseCode
		if s, code = n.pickUp(ctx, lease, want); code != 0 {
			return nil, code
		}
	}
	name, take := want.fresh, !n.cfg.Checkpoint
	if s != nil && s.continues(want.stream) {
		name = want.stream
	}
	if s != nil && s.isClaimed() {
		take = false // what is laid down there now was laid down here
	} else if s != nil {
		// Taking it and laying it down again must not overtake one another.
		if !s.app.LockUntil(ctx) {
			return nil, proto.CloseInternal
		}
		defer s.app.Unlock()
		if code := s.over(); code != 0 {
			return nil, code // what it has laid down is for the next owner
		}
	}
	rec, err := n.cfg.Store.Attach(ctx, lease, name, take, want.proof, n.leaseTTL())
	if err == nil && s == nil {
		s, err = n.first(ctx, lease, rec, want)
	}
	switch {
	case err == nil && s == nil:
		return nil, proto.CloseFull
	case err == nil:
		s.setClaimed()
		return s, s.prove(want.proof)
	case s != nil && s.isClaimed() && (errors.Is(err, session.ErrUnavailable) || errors.Is(err, session.ErrNotFound)):
		// Nobody can have moved or ended the session while the store is away, or
		// if it has lost its data. The ledger tells the store, and hears from it,
		// when it is back.
		if code := s.prove(want.proof); code != 0 {
			return nil, code
		}
		n.metrics.storeSkipped.Inc()
		return s, 0
	}
	return nil, n.refusal(s, rec, err, want)
}

// refusal returns the code for a session that the store does not let this node
// serve. If s is not nil, it is let go of where it is over or another's.
func (n *Node) refusal(s *Session, rec session.Record, err error, want *want) proto.CloseCode {
	code := proto.CloseInternal
	switch {
	case errors.Is(err, session.ErrEnded):
		code, want.word = cmp.Or(rec.Reason, proto.CloseSessionEnded), rec.CloseReason
	case errors.Is(err, session.ErrMoved):
		code = proto.CloseMoved
	case errors.Is(err, session.ErrReplayed):
		return proto.CloseStaleProof // whoever has the session keeps it
	case errors.Is(err, session.ErrNotFound):
		code = proto.CloseUnknownSession
	default:
		n.log.Warn("session cannot be claimed", "session", want.claims.Session, "error", err)
		return code
	}
	if s != nil {
		n.end(s, code, want.word, false)
	}
	return code
}

// pickUp holds the session from now on as another node, or an earlier start of
// this one, has laid it down in the store. It is not to be served before it is
// claimed: until then nothing has been taken from the store.
func (n *Node) pickUp(ctx context.Context, l session.Lease, want *want) (*Session, proto.CloseCode) {
	rec, found, err := n.cfg.Store.Restore(ctx, l)
	if err != nil {
		return nil, n.refusal(nil, rec, err, want)
	}
	from := n.read(rec, found)
	want.reset = resetOf(rec, want.stream, from)
	return n.adopt(rec, want.claims, from)
}

// first holds a session that was just claimed, of a client that names no
// stream. If it had one, there may be a snapshot.
func (n *Node) first(ctx context.Context, l session.Lease, rec session.Record, want *want) (*Session, error) {
	var from *parked
	if rec.Stream != "" {
		_, found, err := n.cfg.Store.Restore(ctx, l)
		if err != nil {
			return nil, err
		}
		from = n.read(rec, found)
		want.reset = resetOf(rec, "", from)
	}
	s, _ := n.adopt(rec, want.claims, from)
	if s == nil && from != nil { // taken in vain: the next owner is to have it
		return nil, n.cfg.Store.Save(ctx, []session.Saved{{
			Lease: l, Stream: rec.Stream, State: from.state, Seq: from.seq + 1, TTL: n.leaseTTL(), Leave: true,
		}})[0]
	}
	return s, nil
}

// resetOf returns why the stream that a client names, if it names one, does not
// continue in a session that this node did not hold. The record is as it was
// before.
func resetOf(rec session.Record, stream string, from *parked) string {
	switch {
	case from.continues(stream):
		return ""
	case rec.Stream != "" && (rec.Stream == stream || stream == "") && (from == nil || !from.Whole):
		return proto.ResetNodeLost
	case stream != "" && from != nil && from.Lost == stream:
		return from.Why
	case stream != "":
		return proto.ResetUnknown
	}
	return ""
}

// leaseTTL is how long the store keeps a session that this node serves without
// hearing of it: long enough to outlive a crash of the node by the window.
func (n *Node) leaseTTL() time.Duration { return n.cfg.ResumeWindow + 3*n.cfg.RenewInterval }

// adopt makes the session of the record, with the stream that was parked if
// there is one, or returns the session that another attach made in the
// meantime.
func (n *Node) adopt(rec session.Record, claims proto.Claims, from *parked) (*Session, proto.CloseCode) {
	s := &Session{
		ID: rec.ID, User: rec.User, Ext: rec.Ext,
		node: n, epoch: rec.Epoch, pool: rec.Pool, region: rec.Region, group: rec.Group, created: rec.Created,
		detached: time.Now(), app: newTurn(),
	}
	if len(rec.Fallback) > 0 || rec.Strict {
		s.regions = &regions{rec.Fallback, rec.Strict}
	}
	if _, mover := n.cfg.App.(Mover); mover || n.cfg.Checkpoint {
		s.saves = &saves{}
	}
	if from != nil {
		s.unpark(from)
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
	n.arrived++
	if len(n.landed) >= maxIssuers && n.landed[claims.Issuer] == 0 {
		clear(n.landed) // brokers see the count fall and start over from it
	}
	n.landed[claims.Issuer]++
	return s, 0
}

// continues reports whether the session's stream is the named one.
func (s *Session) continues(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return name != "" && name == s.name
}

// attach makes c the session's connection in place of any other, resumes the
// stream or starts a new one, and tells the App. A code other than 0 says why
// the client cannot have the session; c is then closed by the caller.
func (c *conn) attach(s *Session, want want) proto.CloseCode {
	n := s.node
	s.mu.Lock()
	if s.frozen { // the client must not come to the next node before its stream
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
	resumed := want.stream != "" && want.stream == s.name
	if s.overtaken(want, resumed) {
		s.mu.Unlock()
		return proto.CloseReplaced
	}
	if resumed {
		if err := s.stream.Ack(want.received); err != nil {
			s.mu.Unlock()
			return proto.CloseProtocolError
		}
		s.stream.Resumed()
	}
	reset := s.beginStream(want, resumed)
	c.session = s
	s.client, s.attempt, s.token = want.client, want.attempt, want.print
	c.next = s.stream.Acked() + 1
	c.urgent = n.welcome(s, want, resumed, reset)
	c.pingAt = time.Now().Add(n.cfg.PingInterval)
	s.conn = c
	s.recount()
	moved := s.moved
	s.moved = false
	s.renewAt = time.Time{}
	if at(time.Now()) > s.leaving {
		s.leaving = 0 // it has been away, and was told to come here
	}
	if n.cfg.Checkpoint {
		n.saver.add(s)
		c.awaits = s.saves.pending()
	}
	if old != nil {
		old.shut(proto.CloseReplaced)
	} else {
		n.attached.Add(1)
	}
	here := c.begin()
	s.mu.Unlock()
	if here {
		c.writeNow()
	}
	n.metrics.attaches.WithLabelValues(attachResult(resumed, reset, old != nil, moved)).Inc()
	if n.logs() {
		n.log.Info("attached", "session", s.ID, "user", s.User, "resumed", resumed, "reset", reset, "replaced", old != nil, "moved", moved)
	}
	c.tellAttached(resumed)
	return 0
}

// overtaken reports whether the handshake is of the past: it was held up on its
// way, and the last connection is a later one of the same client. s.mu is held.
func (s *Session) overtaken(want want, resumed bool) bool {
	if want.attempt == nil || s.attempt == nil || *want.attempt >= *s.attempt {
		return false
	}
	if want.client != "" && s.client != "" {
		return want.client == s.client
	}
	return s.conn != nil && resumed // a client without a name counts for its stream
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

// beginStream starts a new stream unless the old one continues, and returns
// why the one that the client named did not. s.mu is held.
func (s *Session) beginStream(want want, resumed bool) (reset string) {
	if resumed {
		return ""
	}
	switch {
	case want.reset != "":
		reset = want.reset
	case want.stream != "" && want.stream == s.prevName:
		reset = s.prevWhy
	case want.stream != "":
		reset = proto.ResetUnknown
	}
	if reset != "" {
		s.node.metrics.resets.WithLabelValues(reset).Inc()
	}
	switch {
	case s.name != "" || reset == proto.ResetNodeLost:
		s.owe(reset, s.endStream(proto.ResetUnknown))
	case s.prevName != "": // it overflowed: the App waits for the client
		s.owe(reset, nil)
	}
	s.name = want.fresh
	s.stream = &stream.Stream{Limits: s.node.streamLimits()}
	if s.saves != nil {
		s.saves.released, s.saves.handled = 0, 0
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

// welcome returns the first message of a connection. s.mu is held.
func (n *Node) welcome(s *Session, want want, resumed bool, reset string) []byte {
	w := proto.Welcome{
		Session: s.ID, Stream: s.name, Node: n.cfg.ID,
		Resumed: resumed, Received: s.stream.Received(),
		PingIntervalMS:     n.cfg.PingInterval.Milliseconds(),
		ResumeWindowMS:     n.cfg.ResumeWindow.Milliseconds(),
		MaxMessageBytes:    n.cfg.Limits.MessageBytes,
		MaxUnackedBytes:    n.cfg.Limits.UnackedBytes,
		MaxUnackedMessages: n.cfg.Limits.UnackedMessages,
		TokenExpiresAt:     time.Unix(want.claims.Expires, 0).UTC(),
	}
	if want.stream != "" {
		w.Reason = reset
	}
	return proto.AppendControl(nil, proto.Control{Type: proto.TypeWelcome, Welcome: w})
}

// tellAttached tells the App what became of the session. Of two connections
// that follow closely the later one tells of itself, whoever comes here first.
func (c *conn) tellAttached(resumed bool) {
	s := c.session
	s.app.Lock()
	defer s.app.Unlock()
	if s.over() != 0 {
		return // what is still to be told of it comes before Closed
	}
	mine := s.owns(c)
	if mine && s.told {
		s.tellDetached()
	}
	s.tellFirst()
	wasReset := s.tellOwed()
	if mine {
		s.told = true
		if resumed && !wasReset {
			s.tellResumed()
		}
	}
}

// owns reports whether c is the session's connection.
func (s *Session) owns(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn == c
}
