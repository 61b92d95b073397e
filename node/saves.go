package node

import (
	"context"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// saves is what a session knows of how it is saved, under its mu.
type saves struct {
	seq    uint64 // of the last save that was begun
	done   uint64 // of the last one that the store has taken
	queued bool   // another is due
	stale  bool   // a message came since the last, in a node without checkpoints
	at     int64  // Unix time in seconds of the last

	// In a node with checkpoints: frames of the stream up to released are in the
	// store and may be written; messages of so many bytes are handled and not in
	// the store yet, and must not be acknowledged.
	released uint64
	handled  int
}

// pending returns the number of the save that has in it what has happened so
// far.
func (v *saves) pending() uint64 {
	if v == nil {
		return 0
	}
	if v.queued {
		return v.seq + 1
	}
	return v.seq
}

// saving returns what the session knows of how it is saved. s.mu is held.
func (s *Session) saving() *saves {
	if s.saves == nil {
		s.saves = &saves{}
	}
	return s.saves
}

// saver writes down sessions for the case that the node dies, many at a time:
// those of a node with checkpoints whenever something has happened, others now
// and then.
type saver struct {
	node *Node
	wake chan struct{}

	mu    sync.Mutex
	queue []*Session // each once
}

const (
	saveBatch = 256
	// saveRetry is the time after which a session that could not be saved is
	// tried again: the application holds it, or the store is away.
	saveRetryBusy = time.Millisecond
	saveRetryDown = 100 * time.Millisecond
)

func newSaver(n *Node) *saver { return &saver{node: n, wake: make(chan struct{}, 1)} }

// add has the session saved. s.mu is held.
func (v *saver) add(s *Session) {
	if s.saving().queued || s.endCode != 0 {
		return
	}
	s.saves.queued = true
	v.mu.Lock()
	v.queue = append(v.queue, s)
	v.mu.Unlock()
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

func (v *saver) take() []*Session {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := v.queue
	if len(list) > saveBatch {
		v.queue = append([]*Session(nil), list[saveBatch:]...)
		return list[:saveBatch]
	}
	v.queue = nil
	return list
}

// run saves what is due until ctx ends.
func (v *saver) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		}
		for list := v.take(); len(list) > 0; list = v.take() {
			wait := v.save(ctx, list)
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

// save saves the sessions. Those that it could not are due again; it returns
// how long to wait before.
func (v *saver) save(ctx context.Context, list []*Session) (wait time.Duration) {
	var begun []begunSave
	var saved []session.Saved
	for _, s := range list {
		b, busy := s.beginSave()
		switch {
		case busy:
			v.again(s)
		case b.session != nil:
			begun, saved = append(begun, b), append(saved, b.saved)
		}
	}
	if len(saved) == 0 {
		return saveRetryBusy
	}
	ctx, cancel := context.WithTimeout(ctx, v.node.cfg.StoreTimeout)
	defer cancel()
	for i, err := range v.node.cfg.Store.Save(ctx, saved) {
		s := begun[i].session
		switch {
		case err == nil:
			begun[i].end()
		case v.node.lost(ctx, s, err):
		default: // the store is away, or has lost the record, which the ledger brings back
			v.node.metrics.saveFailed.Inc()
			s.mu.Lock()
			s.renewAt = time.Time{}
			s.mu.Unlock()
			v.again(s)
			wait = saveRetryDown
		}
	}
	return wait
}

func (v *saver) again(s *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saves.queued = false
	v.add(s)
}

// begunSave is a save on its way to the store, and what it covers.
type begunSave struct {
	session  *Session
	saved    session.Saved
	stream   *stream.Stream
	sent     uint64 // frames
	received uint64 // messages
	bytes    int    // of those that are handled and were not saved before
}

// beginSave returns what to save of the session: nothing if it is over or on
// its way to another node. It is busy while the application is called for it.
func (s *Session) beginSave() (b begunSave, busy bool) {
	if !s.app.TryLock() {
		return b, true
	}
	defer s.app.Unlock()
	s.mu.Lock()
	s.saves.queued = false
	if s.endCode != 0 || s.frozen {
		s.mu.Unlock()
		return b, false
	}
	b.stream, b.bytes = s.stream, s.saves.handled
	if s.stream != nil {
		b.sent, b.received = s.stream.Sent(), s.stream.Received()
	}
	s.saves.stale, s.saves.at = false, time.Now().Unix()
	s.mu.Unlock()
	var err error
	if b.saved, err = s.stateToSave(); err != nil {
		s.node.metrics.saveFailed.Inc()
		s.node.log.Error("session cannot be saved", "session", s.ID, "user", s.User, "error", err)
		if s.node.cfg.Checkpoint { // nothing may pass that is not saved
			s.cut(proto.CloseInternal)
		}
		return begunSave{}, false
	}
	b.session = s
	return b, false
}

// stateToSave returns all of the session in a node with checkpoints, and else
// what the application knows. s.app is held.
func (s *Session) stateToSave() (session.Saved, error) {
	if s.node.cfg.Checkpoint {
		return s.state()
	}
	s.mu.Lock()
	v := s.save()
	s.mu.Unlock()
	return v, s.pack(&v, parked{Version: parkedVersion, Session: s.ID})
}

// end releases what the store has now: acknowledgements, and output.
func (b begunSave) end() {
	s := b.session
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saves.done = max(s.saves.done, b.saved.Seq)
	if s.node.cfg.Checkpoint && s.stream == b.stream && s.stream != nil {
		s.saves.released = max(s.saves.released, b.sent)
		s.saves.handled -= b.bytes
		for bytes := b.bytes; s.stream.HandledCount() < b.received; bytes = 0 {
			s.stream.Handled(bytes) // all of them with the first: together is what counts
		}
		s.acknowledge()
	}
	if s.conn != nil {
		s.conn.kick()
	}
}

// saveDue reports whether what the application knows is to be saved: messages
// came since it last was, and that is a while ago. s.mu is held.
func (s *Session) saveDue(now time.Time) bool {
	cfg := &s.node.cfg
	if cfg.Checkpoint || cfg.SnapshotInterval < 0 || s.saves == nil || !s.saves.stale {
		return false
	}
	_, mover := cfg.App.(Mover)
	return mover && now.Unix()-s.saves.at >= int64(cfg.SnapshotInterval/time.Second)
}
