package node

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/node/internal/lease"
	"github.com/usher-broker/usher/node/internal/lock"
	"github.com/usher-broker/usher/node/internal/wheel"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// Session is the session of one client on this node. Its methods are safe for
// concurrent use and never block.
type Session struct {
	// ID, User and Ext come from the login and never change. Ext is what the
	// operator's backend returned about the user.
	ID   string
	User string
	Ext  json.RawMessage

	// Data belongs to the application; the node never touches it. Calls for one
	// session do not overlap, so an App needs no lock for it.
	Data any

	node    *Node
	lease   lease.Lease
	pool    string
	region  string
	regions *regions // nil if any region may serve
	group   string
	created time.Time // when the record was created

	// callbackLock is held during every call of the App for this session.
	callbackLock callbackLock
	app          appState

	timer      wheel.Item[*Session] // for Node.timers
	inIdleHeap heapPlace            // Node.idle protects it
	inDrain    drainPlace           // Node.drainQueue protects it

	mu           lock.Mutex[lock.Session] // protects the following
	phase        phase
	thawTo       phase       // the phase in which a frozen session continues if it stays
	how          *closeError // how it ended; nil while it has not
	name         string      // of the stream; empty if it has ended and no other has begun
	stream       *stream.Stream
	conn         *conn   // nil while detached
	client       string  // of the last connection, if the client named itself
	attempt      *uint64 // of the last connection, if the client counts attempts
	pendingReset *Reset  // the App was not notified of it yet
	prevName     string
	prevWhy      string            // why the stream prevName ended
	held         bool              // the application keeps it here, see Hold
	snapshot     []byte            // from the node before, not restored into the App yet
	detached     time.Time         // since when, while detached
	leaving      instant           // when it must leave for a rebalance; 0 if it may stay
	goAwayAt     instant           // when the last goaway was sent
	used         instant           // when a message last passed
	checkpoint   *checkpointState  // nil if the session needs no checkpoints and no snapshots
	keys         *pushKeys         // of the last messages pushed; nil before the first
	counted      int               // bytes of this session in Node.kept
	proof        uint64            // number of the last proof
	token        token.Fingerprint // of the token of the last attach
}

// instant is a time in Unix nanoseconds. It is a third of the size of a time.Time.
type instant int64

func at(t time.Time) instant { return instant(t.UnixNano()) }

// Send sends a message to the client and does not wait for it. The node keeps a
// reliable message until the client confirms it, also while the session is detached.
// It drops, and counts, a volatile message while the session is detached or the
// client is slow.
//
// In a node with Config.Checkpoint the message goes out after the checkpoint that
// contains it. Send copies m.Data. Errors: ErrSlow, ErrOverflow, ErrTooLarge,
// ErrClosed, ErrMoving, and proto.ErrInvalidUTF8 for a text message that is not valid
// UTF-8.
func (s *Session) Send(m Message) error {
	frame, err := s.node.frame(m)
	if err != nil {
		return err
	}
	s.mu.Lock()
	err = s.send(m, frame)
	if errors.Is(err, ErrSlow) && s.conn == nil {
		s.overflow()
		err = ErrOverflow
	}
	writeHere := err == nil && s.conn != nil && s.conn.startWriting()
	c := s.conn
	s.mu.Unlock()
	if writeHere {
		c.writeNow()
	}
	return err
}

// frame encodes the message for the wire. It returns an error if the message is too
// large or its text is not valid UTF-8.
func (n *Node) frame(m Message) ([]byte, error) {
	if len(m.Data) > n.cfg.Limits.MessageBytes {
		return nil, ErrTooLarge
	}
	frame := proto.AppendMessage(make([]byte, 0, 1+len(m.Data)), m)
	if m.Text {
		if _, err := proto.ParseMessage(frame); err != nil {
			return nil, err
		}
	}
	return frame, nil
}

// send queues an encoded frame without starting a write. It returns ErrSlow if too
// much is unconfirmed, also while the session is detached. The caller holds s.mu.
func (s *Session) send(m Message, frame []byte) error {
	if err := s.phase.sendError(); err != nil {
		return err
	}
	switch {
	case m.Volatile && s.conn == nil:
		s.node.metrics.dropped.WithLabelValues("detached").Inc()
		return nil
	case m.Volatile:
		if dropped := s.conn.out.PushVolatile(frame); dropped > 0 {
			s.node.metrics.dropped.WithLabelValues("slow").Add(float64(dropped))
		}
		return nil
	case s.stream == nil:
		return ErrOverflow
	}
	if !s.mayKeep(len(frame)) {
		s.node.metrics.slow.Inc()
		return ErrSlow
	}
	if _, err := s.stream.Send(frame); err != nil {
		s.node.metrics.slow.Inc()
		return ErrSlow
	}
	s.recount()
	s.used = at(time.Now())
	if s.node.cfg.Checkpoint {
		s.queueCheckpoint()
	}
	return nil
}

// mayKeep reports whether Config.DetachedBytes allows size more bytes for this
// session. An attached session is always allowed. The caller holds s.mu.
func (s *Session) mayKeep(size int) bool {
	most := s.node.cfg.DetachedBytes
	return s.conn != nil || most < 0 || s.node.kept.Load()+int64(size) <= int64(most)
}

// recount updates Node.kept. Call it when a connection begins or ends, and when the
// data kept for a detached session changes. The caller holds s.mu.
func (s *Session) recount() {
	kept := 0
	if s.conn == nil && s.phase != ended && s.stream != nil {
		kept = s.stream.Kept()
	}
	if kept != s.counted {
		s.node.kept.Add(int64(kept - s.counted))
		s.counted = kept
	}
}

// overflow ends the stream of a detached session and notifies the App. The caller
// holds s.mu.
func (s *Session) overflow() {
	lost := s.endStream(proto.ResetOverflow)
	s.node.leases.Changed(&s.lease)
	s.node.log.Warn("stream ended: too much was sent while detached",
		"session", s.ID, "user", s.User, "unconfirmed", len(lost))
	s.addPendingReset(proto.ResetOverflow, lost)
	s.node.wg.Go(func() { // the caller may hold s.callbackLock
		s.callbackLock.Lock()
		defer s.unlockCallbacks()
		s.notifyPendingReset()
	})
}

// endStream removes the stream and returns its unconfirmed frames. The caller holds
// s.mu.
func (s *Session) endStream(why string) (unconfirmed [][]byte) {
	if s.stream != nil {
		unconfirmed = s.stream.Unacked()
	}
	s.prevName, s.prevWhy = s.name, why
	s.name, s.stream = "", nil
	s.recount()
	return unconfirmed
}

// addPendingReset records that the App must be notified of a lost stream. The caller
// holds s.mu.
func (s *Session) addPendingReset(reason string, lost [][]byte) {
	if s.pendingReset == nil {
		s.pendingReset = &Reset{Reason: reason}
	}
	s.pendingReset.Unconfirmed = append(s.pendingReset.Unconfirmed, messages(lost)...)
}

// notifyPendingReset calls App.Reset if a reset is pending, and reports whether it
// did. The caller holds s.callbackLock.
func (s *Session) notifyPendingReset() bool {
	s.mu.Lock()
	r := s.pendingReset
	s.pendingReset = nil
	away := s.name == ""
	s.mu.Unlock()
	if r == nil {
		return false
	}
	r.Away = away
	s.ensureOpened()
	s.notifyReset(*r)
	return true
}

func messages(frames [][]byte) []Message {
	list := make([]Message, len(frames))
	for i, f := range frames {
		list[i], _ = proto.ParseMessage(f) // frames that the node made parse
	}
	return list
}

// Close ends the session in the cluster, with a close code of the application (4500
// to 4999) and a reason of at most 123 bytes. Everything that was sent goes to the
// client first. The client does not come back. It returns ErrCode for any other code
// or a longer reason, and ErrClosed if the session has already ended here.
func (s *Session) Close(code proto.CloseCode, reason string) error {
	if code.Action() != proto.ActionApp || len(reason) > 123 {
		return ErrCode
	}
	if !s.node.end(s, code, reason, true) {
		return ErrClosed
	}
	s.node.leases.End(&s.lease, code)
	return nil
}

// useProof records the number of a proof. It returns an error, which closes the client
// with proto.CloseStaleProof, if the number was used before. A proof of 0 means none.
// While the store is unavailable, this is the only check against replay.
func (s *Session) useProof(proof uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if proof != 0 && proof <= s.proof {
		return closeWith(proto.CloseStaleProof)
	}
	s.proof = max(s.proof, proof)
	return nil
}

// Hold keeps a drain or a rebalance from asking the session to leave the node until
// Release is called. Until then it moves for no other reason either, also not for a
// client that cannot reach the node. Use it in the middle of a match, for example. Hold does not
// outlast the deadline of a drain and does not prevent the end of the session.
func (s *Session) Hold() { s.hold(true) }

// Release undoes Hold.
func (s *Session) Release() { s.hold(false) }

func (s *Session) hold(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == held {
		return
	}
	s.held = held
	if s.phase == ended {
		return
	}
	if held {
		s.node.held.Add(1)
	} else {
		s.node.held.Add(-1)
	}
	s.update(time.Now())
}

// cut closes the connection, if there is one, and leaves the session detached.
func (s *Session) cut(code proto.CloseCode) {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c != nil {
		c.detach(code)
	}
}

// regions says which regions may serve a session when its own region has no capacity.
// Few sessions have this setting, so it is a pointer in Session.
type regions struct {
	fallback []string
	strict   bool
}

// owns reports whether c is the connection of the session.
func (s *Session) owns(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn == c
}

func (s *Session) isHeld() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}
