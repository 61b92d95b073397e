package node

import (
	"time"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// continues reports whether the named stream is the current stream of the session.
func (s *Session) continues(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return name != "" && name == s.name
}

// attachment says how a connection got its session.
type attachment struct {
	resumed  bool   // the stream continues
	reset    string // why the stream that the client named does not
	replaced bool   // another connection carried the session until now
	moved    bool   // the session came with its stream, and no client has attached here before
}

// result returns the label of the attachment in the metrics.
func (a attachment) result() string {
	switch {
	case a.resumed && a.moved:
		return "moved"
	case a.resumed && a.replaced:
		return "taken_over"
	case a.resumed:
		return "resumed"
	case a.reset != "":
		return "reset"
	}
	return "new"
}

// attach makes c the connection of the session in place of any other, resumes the
// stream or starts a new one, and notifies the App. An error says with which code the
// caller closes c.
func (c *conn) attach(got acquired, req attachRequest) error {
	s := got.session
	n := s.node
	if err := s.lockUnfrozen(); err != nil {
		return err
	}
	a, err := s.take(c, got, req)
	writeHere := err == nil && c.becomeWriter()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if writeHere {
		c.writeNow()
	}
	n.metrics.attaches.WithLabelValues(a.result()).Inc()
	if n.logsInfo() {
		n.log.Info("attached", "session", s.ID, "user", s.User, "resumed", a.resumed, "reset", a.reset, "replaced", a.replaced, "moved", a.moved)
	}
	c.notifyAttached(a.resumed)
	return nil
}

// lockUnfrozen locks s.mu when the session is not frozen: its client must not reach the
// next node before its stream. It returns an error, and locks nothing, if the session
// has ended or stays frozen for too long.
func (s *Session) lockUnfrozen() error {
	s.mu.Lock()
	for s.phase == moving {
		s.mu.Unlock()
		if !s.awaitMove() {
			return closeWith(proto.CloseInternal)
		}
		s.mu.Lock()
	}
	err := s.endErrorLocked()
	if err != nil {
		s.mu.Unlock()
	}
	return err
}

// take makes c the connection of the session and queues the welcome. The caller holds
// s.mu.
func (s *Session) take(c *conn, got acquired, req attachRequest) (attachment, error) {
	n, old := s.node, s.conn
	a := attachment{resumed: req.stream != "" && req.stream == s.name, replaced: old != nil, moved: s.phase == attaching && s.stream != nil}
	if s.isOutdated(req, a.resumed) {
		return a, closeWith(proto.CloseReplaced)
	}
	if a.resumed {
		if err := s.stream.Ack(req.received); err != nil {
			return a, closeWith(proto.CloseProtocolError)
		}
		s.stream.Resumed()
	}
	if err := s.enter(attached); err != nil {
		return a, err
	}
	a.reset = s.beginStream(req, got, a.resumed)
	s.client, s.attempt, s.token = req.client, req.attempt, req.fingerprint
	c.session = s
	c.out.Begin(s.stream)
	c.urgent = n.welcome(s, req, a.resumed, a.reset)
	c.pingAt = time.Now().Add(n.cfg.PingInterval)
	s.conn = c
	s.recount()
	n.leases.Changed(&s.lease)
	if at(time.Now()) > s.leaving {
		s.changeLeaving(0) // the client came back after the deadline, so it was assigned here again
	}
	s.update(time.Now())
	if n.cfg.Checkpoint {
		s.queueCheckpoint()
		c.awaitsCheckpoint = s.checkpoint.coveringSeq()
	}
	if old != nil {
		old.shut(proto.CloseReplaced)
	} else {
		n.attached.Add(1)
	}
	return a, nil
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

// beginStream starts a new stream unless the current one continues. It returns why
// the stream that the client named does not continue. The caller holds s.mu.
func (s *Session) beginStream(req attachRequest, got acquired, resumed bool) (reset string) {
	if resumed {
		return ""
	}
	switch {
	case got.reset != "":
		reset = got.reset
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
	s.name = got.stream
	s.stream = &stream.Stream{Limits: s.node.streamLimits()}
	if s.checkpoint != nil {
		s.checkpoint.released, s.checkpoint.handled = 0, 0
	}
	return reset
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
	defer s.unlockCallbacks()
	if s.endError() != nil {
		return // endWith notifies the App of everything pending before Closed
	}
	mine := s.owns(c)
	if mine && s.app == appAttached {
		s.notifyDetached()
	}
	s.ensureOpened()
	wasReset := s.notifyPendingReset()
	if mine {
		s.app = appAttached
		if resumed && !wasReset {
			s.notifyResumed()
		}
	}
}
