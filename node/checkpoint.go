package node

import (
	"context"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/node/internal/lease"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// leaseOwner is a Session as the lease keeper sees it.
type leaseOwner Session

// Record returns what the store should know about the session, and the ttl of its
// record.
func (o *leaseOwner) Record(now time.Time) (session.Record, time.Duration) {
	s := (*Session)(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := session.Record{
		ID: s.ID, User: s.User, Node: s.node.cfg.ID, Epoch: s.lease.Epoch, State: session.Attached, Stream: s.name,
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

// Lost ends a session that has ended or belongs to another node according to the store.
func (o *leaseOwner) Lost(err error, rec session.Record) {
	s := (*Session)(o)
	if how := lossOf(rec, err); how != nil {
		s.node.end(s, how.code, how.reason, false)
	}
}

// renewNow writes the records of the sessions to the store, and waits for it.
func (n *Node) renewNow(ctx context.Context, list []*Session) {
	leases := make([]*lease.Lease, len(list))
	for i, s := range list {
		leases[i] = &s.lease
	}
	n.leases.Renew(ctx, leases)
}

// checkpointState tracks the checkpoints of a session. Its session's mu protects it.
type checkpointState struct {
	seq     uint64        // number of the last checkpoint that was begun
	done    uint64        // number of the last checkpoint that is stored
	queued  bool          // something has happened that no checkpoint contains yet
	stale   bool          // a message came since the last snapshot, in a node without checkpoints
	at      int64         // Unix time of the last one, in seconds
	changed chan struct{} // closed when done rises or the session ends; nil if nobody waits

	// Used with Config.Checkpoint only. Frames up to released are stored and may be
	// written. handled counts the bytes of messages that are handled and not stored
	// yet, and so must not be acknowledged yet.
	released uint64
	handled  int
}

// coveringSeq returns the number of the checkpoint that contains everything that has
// happened so far.
func (c *checkpointState) coveringSeq() uint64 {
	if c == nil {
		return 0
	}
	if c.queued {
		return c.seq + 1
	}
	return c.seq
}

// initCheckpoint returns s.checkpoint, and creates it if necessary. The caller holds
// s.mu.
func (s *Session) initCheckpoint() *checkpointState {
	if s.checkpoint == nil {
		s.checkpoint = &checkpointState{}
	}
	return s.checkpoint
}

// queueCheckpoint queues the session for a checkpoint. With Config.Checkpoint the node
// stores a session whenever something has happened to it; otherwise it stores the
// snapshots of a Mover from time to time. The caller holds s.mu.
func (s *Session) queueCheckpoint() {
	if s.initCheckpoint().queued || s.phase == ended {
		return
	}
	s.checkpoint.queued = true
	s.node.leases.Checkpoint(&s.lease)
}

// unlockCallbacks unlocks s.callbackLock. A checkpoint that found it locked is queued
// again.
func (s *Session) unlockCallbacks() {
	s.callbackLock.Unlock()
	if !s.node.checkpoints {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checkpoint.queued && s.phase != ended {
		s.node.leases.Checkpoint(&s.lease)
	}
}

// signalCheckpoint wakes those that wait for a checkpoint. The caller holds s.mu.
func (s *Session) signalCheckpoint() {
	if c := s.checkpoint; c != nil && c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// begunCheckpoint is a checkpoint that is being stored, and what it covers.
type begunCheckpoint struct {
	session  *Session
	saved    session.Saved
	stream   *stream.Stream
	sent     uint64 // frames
	received uint64 // messages
	bytes    int    // bytes of messages that are handled and were not stored before
}

// Checkpoint returns the checkpoint to store. There is none if the session has ended,
// is moving to another node, or has no snapshot.
func (o *leaseOwner) Checkpoint() (lease.Checkpoint, lease.CheckpointStatus) {
	s := (*Session)(o)
	if !s.callbackLock.TryLock() {
		return lease.Checkpoint{}, lease.CheckpointBusy // unlockCallbacks queues it again
	}
	defer s.callbackLock.Unlock()
	b, ok := s.beginCheckpoint()
	if !ok {
		return lease.Checkpoint{}, lease.CheckpointNothing
	}
	return lease.Checkpoint{Saved: b.saved, Commit: b.commit, Failed: b.failed}, lease.CheckpointReady
}

// beginCheckpoint returns the checkpoint to store, or false if there is none. The
// caller holds s.callbackLock.
func (s *Session) beginCheckpoint() (b begunCheckpoint, ok bool) {
	s.mu.Lock()
	s.checkpoint.queued = false
	if s.phase >= moving {
		s.mu.Unlock()
		return b, false
	}
	b.session, b.stream, b.bytes = s, s.stream, s.checkpoint.handled
	if s.stream != nil {
		b.sent, b.received = s.stream.Sent(), s.stream.Received()
	}
	s.checkpoint.stale, s.checkpoint.at = false, time.Now().Unix()
	s.mu.Unlock()
	var err error
	if b.saved, err = s.checkpointContent(); err != nil {
		s.node.metrics.checkpointFailed.Inc()
		s.node.log.Error("session cannot be checkpointed", "session", s.ID, "user", s.User, "error", err)
		if s.node.cfg.Checkpoint { // no message may pass that is not stored
			s.cut(proto.CloseInternal)
		}
		return b, false
	}
	return b, true
}

// checkpointContent returns the complete session with Config.Checkpoint, and
// otherwise only the snapshot of the application. The caller holds s.callbackLock.
func (s *Session) checkpointContent() (session.Saved, error) {
	if s.node.cfg.Checkpoint {
		return s.state()
	}
	s.mu.Lock()
	v := s.newSaved()
	s.mu.Unlock()
	return v, s.encodeState(&v, sessionState{Version: sessionStateVersion, Session: s.ID})
}

// failed records that what the checkpoint covers is not stored: another one must cover
// it, also if a callback runs when the keeper asks for it.
func (b begunCheckpoint) failed() {
	s := b.session
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkpoint.queued = s.phase != ended
}

// commit releases what is stored now: acknowledgements and output.
func (b begunCheckpoint) commit() {
	s := b.session
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkpoint.done = max(s.checkpoint.done, b.saved.Seq)
	s.signalCheckpoint()
	if s.node.cfg.Checkpoint && s.stream == b.stream && s.stream != nil {
		s.checkpoint.released = max(s.checkpoint.released, b.sent)
		s.checkpoint.handled -= b.bytes
		for bytes := b.bytes; s.stream.HandledCount() < b.received; bytes = 0 {
			s.stream.Handled(bytes) // only the sum of the bytes counts, so the first call reports all of them
		}
		s.acknowledge()
	}
	if s.conn != nil {
		s.conn.wakeWriter()
	}
}

// leaseTTL returns how long the store keeps a session that this node serves without a
// renewal. It is long enough that the record outlives a crash of the node by the
// resume window.
func (n *Node) leaseTTL() time.Duration { return n.cfg.ResumeWindow + 3*n.cfg.RenewInterval }
