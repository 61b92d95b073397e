package node

import (
	"context"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// checkpointState tracks the checkpoints of a session. Its session's mu protects it.
type checkpointState struct {
	seq    uint64 // number of the last checkpoint that was begun
	done   uint64 // number of the last checkpoint that is stored
	queued bool   // the session is in the queue of the checkpointer
	stale  bool   // a message came since the last snapshot, in a node without checkpoints
	at     int64  // Unix time of the last one, in seconds

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

// checkpointer stores sessions, many at a time, for the case that the node dies. With
// Config.Checkpoint it stores a session whenever something has happened to it;
// otherwise it stores the snapshots of a Mover from time to time.
type checkpointer struct {
	node *Node
	wake chan struct{}

	mu    sync.Mutex
	queue []*Session // each session once
}

const (
	checkpointBatch = 256
	// These are the times after which a session that could not be stored is tried
	// again: Busy if the application is handling a call, Down if the store is
	// unavailable.
	checkpointRetryBusy = time.Millisecond
	checkpointRetryDown = 100 * time.Millisecond
)

func newCheckpointer(n *Node) *checkpointer {
	return &checkpointer{node: n, wake: make(chan struct{}, 1)}
}

// add queues the session for a checkpoint. The caller holds s.mu.
func (c *checkpointer) add(s *Session) {
	if s.initCheckpoint().queued || s.phase == ended {
		return
	}
	s.checkpoint.queued = true
	c.mu.Lock()
	c.queue = append(c.queue, s)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *checkpointer) takeBatch() []*Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.queue
	if len(list) > checkpointBatch {
		c.queue = append([]*Session(nil), list[checkpointBatch:]...)
		return list[:checkpointBatch]
	}
	c.queue = nil
	return list
}

// run writes the queued checkpoints until ctx ends.
func (c *checkpointer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		for list := c.takeBatch(); len(list) > 0; list = c.takeBatch() {
			wait := c.write(ctx, list)
			if wait == 0 {
				continue
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}
}

// write stores the sessions. It queues those that failed again, and returns how long
// to wait before the next attempt.
func (c *checkpointer) write(ctx context.Context, list []*Session) (wait time.Duration) {
	var begun []begunCheckpoint
	var saved []session.Saved
	for _, s := range list {
		b, busy := s.beginCheckpoint()
		switch {
		case busy:
			c.requeue(s)
		case b.session != nil:
			begun, saved = append(begun, b), append(saved, b.saved)
		}
	}
	if len(saved) == 0 {
		return checkpointRetryBusy
	}
	ctx, cancel := context.WithTimeout(ctx, c.node.cfg.StoreTimeout)
	defer cancel()
	for i, err := range c.node.cfg.Store.Save(ctx, saved) {
		s := begun[i].session
		switch {
		case err == nil:
			begun[i].commit()
		case c.node.endIfLost(ctx, s, err):
		default: // the store is unavailable, or has lost the record, which the lease renewer restores
			c.node.metrics.checkpointFailed.Inc()
			s.mu.Lock()
			s.renewAt = time.Time{}
			s.mu.Unlock()
			c.requeue(s)
			wait = checkpointRetryDown
		}
	}
	return wait
}

func (c *checkpointer) requeue(s *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkpoint.queued = false
	c.add(s)
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

// beginCheckpoint returns the checkpoint to store. It returns an empty one if the
// session has ended, is moving to another node, or has no snapshot. busy means that a
// call of the application is running.
func (s *Session) beginCheckpoint() (b begunCheckpoint, busy bool) {
	if !s.callbackLock.TryLock() {
		return b, true
	}
	defer s.callbackLock.Unlock()
	s.mu.Lock()
	s.checkpoint.queued = false
	if s.phase >= moving {
		s.mu.Unlock()
		return b, false
	}
	b.stream, b.bytes = s.stream, s.checkpoint.handled
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
		return begunCheckpoint{}, false
	}
	b.session = s
	return b, false
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

// commit releases what is stored now: acknowledgements and output.
func (b begunCheckpoint) commit() {
	s := b.session
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkpoint.done = max(s.checkpoint.done, b.saved.Seq)
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

// snapshotDue reports whether the snapshot of the application is to be stored:
// messages came since the last snapshot, and SnapshotInterval has passed. The caller
// holds s.mu.
func (s *Session) snapshotDue(now time.Time) bool {
	cfg := &s.node.cfg
	if cfg.Checkpoint || cfg.SnapshotInterval < 0 || s.checkpoint == nil || !s.checkpoint.stale {
		return false
	}
	_, mover := cfg.App.(Mover)
	return mover && now.Unix()-s.checkpoint.at >= int64(cfg.SnapshotInterval/time.Second)
}
