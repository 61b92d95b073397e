package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// Mover is an App that passes its state of a session to the next node when the
// session moves there, or when this node dies. The node calls its methods like those
// of App, one at a time for each session.
type Mover interface {
	App

	// Snapshot returns what the next node needs to know about the session, at most
	// MaxSnapshot bytes. The session may still stay on this node; Closed reports when
	// it leaves. If Snapshot returns an error or more bytes, the session stays here
	// for as long as the node runs. When the node stops, the session starts a new
	// stream at its next node, whose App gets a Reset.
	Snapshot(s *Session) ([]byte, error)

	// Restore receives, on the next node, what Snapshot returned last. The node calls
	// it after Opened and before Resumed. If the previous node died, the node calls
	// it before Reset, and the snapshot does not contain what happened after it was
	// taken, unless Config.Checkpoint is set. If Restore returns an error, the node
	// logs and counts it, and the session continues without the snapshot.
	Restore(s *Session, snapshot []byte) error
}

// MaxSnapshot is the largest result of Mover.Snapshot, in bytes.
const MaxSnapshot = 64 << 10

// sessionState is a session as it is stored between two nodes: its stream, and the
// snapshot of the application.
type sessionState struct {
	Version   int      `json:"v"`
	Session   string   `json:"session"`
	HasStream bool     `json:"has_stream"` // the stream is stored here and can continue; otherwise Snapshot is all there is
	Acked     uint64   `json:"acked,omitempty"`
	Received  uint64   `json:"received,omitempty"`
	Kept      [][]byte `json:"kept,omitempty"`
	Client    string   `json:"client,omitempty"`
	Attempt   *uint64  `json:"attempt,omitempty"`
	Keys      []string `json:"keys,omitempty"` // of the messages pushed last
	Lost      string   `json:"lost,omitempty"` // the stream that ended here, if no other has begun since
	Why       string   `json:"why,omitempty"`  // why it ended
	Snapshot  []byte   `json:"snapshot,omitempty"`

	stream string
	seq    uint64
	state  []byte // the encoded state, as it was read
}

const sessionStateVersion = 5

const (
	// persistConcurrency is how many sessions are persisted at a time.
	persistConcurrency = 64
	// persistSlotTime is how long an attempt that waits for the application counts in
	// persistConcurrency: callbacks that do not return must not hold up other sessions.
	persistSlotTime = 100 * time.Millisecond
)

// persistAttempt is an attempt to persist a session. A session has one at a time. It
// ends only when the callbacks of the session have returned.
type persistAttempt struct {
	session *Session
	began   time.Time
	saving  atomic.Bool   // it waits for the store, and no longer for the application
	done    chan struct{} // closed at its end
}

// isStuck reports whether the attempt waits for the application.
func (a *persistAttempt) isStuck() bool {
	select {
	case <-a.done:
		return false
	default:
		return !a.saving.Load()
	}
}

// persistAll starts to persist the sessions, until ctx ends. It does not wait for the
// results, only for free slots.
func (n *Node) persistAll(ctx context.Context, list []*Session) (attempts []*persistAttempt) {
	for _, s := range list {
		select {
		case n.persistSlots <- struct{}{}:
			if a, _ := n.startPersist(s, n.releasePersistSlot); a != nil {
				attempts = append(attempts, a)
			}
		case <-ctx.Done():
			return attempts
		}
	}
	return attempts
}

// tryPersist starts to persist the session and does not wait. It returns false if no
// slot is free or an attempt is in progress.
func (n *Node) tryPersist(s *Session) bool {
	select {
	case n.persistSlots <- struct{}{}:
		_, started := n.startPersist(s, n.releasePersistSlot)
		return started
	default:
		return false
	}
}

func (n *Node) releasePersistSlot() { <-n.persistSlots }

// startPersist starts an attempt to persist the session, unless one is in progress,
// and returns the attempt. It returns nil once Shutdown has ended all sessions.
// release is called when the attempt no longer counts in persistConcurrency.
func (n *Node) startPersist(s *Session, release func()) (a *persistAttempt, started bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a = n.persisting[s]; a != nil || n.ended {
		release()
		return a, false
	}
	a = &persistAttempt{session: s, began: time.Now(), done: make(chan struct{})}
	n.persisting[s] = a
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		defer close(a.done)
		defer n.removeAttempt(a)
		n.persist(a, sync.OnceFunc(release))
	}()
	return a, true
}

func (n *Node) removeAttempt(a *persistAttempt) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.persisting[a.session] == a {
		delete(n.persisting, a.session)
	}
}

// awaitPersisted waits until the attempts have ended or ctx ends.
func (n *Node) awaitPersisted(ctx context.Context, attempts ...*persistAttempt) {
	for _, a := range attempts {
		select {
		case <-a.done:
		case <-ctx.Done():
			return
		}
	}
}

// logStuck logs the attempts that wait for the application, and returns how many. It
// leaves out sessions that have ended otherwise.
func (n *Node) logStuck(message string, attempts []*persistAttempt) (count int) {
	for _, a := range attempts {
		if a.isStuck() && a.session.endError() == nil {
			count++
			n.log.Warn(message, "session", a.session.ID, "user", a.session.User,
				"waited", time.Since(a.began).Round(time.Millisecond))
		}
	}
	return count
}

// persist freezes the session for good and persists its stream for the next node.
// Only then does it send the client away. If the stream cannot be persisted it is
// lost, and the next node reports a reset. persist does nothing if the drain is
// canceled while it waits for the application.
func (n *Node) persist(a *persistAttempt, release func()) {
	defer release()
	early := time.AfterFunc(persistSlotTime, release)
	defer early.Stop()
	s := a.session
	s.callbackLock.Lock()
	defer s.callbackLock.Unlock()
	if n.abandoned(a) || s.freeze() != nil {
		return // the drain was canceled, or the session has ended
	}
	v, err := s.state()
	early.Stop()
	a.saving.Store(true)
	if err == nil {
		v.Leave = true
		ctx, cancel := context.WithTimeout(context.Background(), n.cfg.StoreTimeout)
		err = n.cfg.Store.Save(ctx, []session.Saved{v})[0]
		cancel()
	}
	result := "ok"
	if err != nil {
		result = "failed"
		n.log.Warn("session leaves, but its stream was not persisted", "session", s.ID, "user", s.User, "error", err)
	}
	if n.end(s, proto.CloseGoingAway, "", !n.cfg.Checkpoint || result == "ok") {
		n.metrics.persisted.WithLabelValues(result).Inc()
	}
}

// abandoned reports whether the drain was canceled. Then it removes the attempt in the
// same step, so that a later drain or Shutdown starts another one.
func (n *Node) abandoned(a *persistAttempt) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.draining.Load() {
		return false
	}
	delete(n.persisting, a.session)
	return true
}

// awaitMove waits until the holder of s.callbackLock, which froze the session, has
// finished. This may take long while the store does not answer whether the session
// moved; then awaitMove returns false.
func (s *Session) awaitMove() bool {
	ctx, cancel := context.WithTimeout(context.Background(), moveTimeout)
	defer cancel()
	if !s.callbackLock.LockUntil(ctx) {
		return false
	}
	s.callbackLock.Unlock()
	return true
}

// state returns the complete session as it is stored. The caller holds
// s.callbackLock.
func (s *Session) state() (session.Saved, error) {
	s.mu.Lock()
	st := sessionState{Version: sessionStateVersion, Session: s.ID, Client: s.client, Attempt: s.attempt, Keys: s.keys.list()}
	if s.stream != nil {
		half := s.stream.State()
		st.HasStream, st.Acked, st.Received, st.Kept = true, half.Acked, half.Received, half.Kept
	} else {
		st.Lost, st.Why = s.prevName, s.prevWhy
	}
	v := s.newSaved()
	s.mu.Unlock()
	return v, s.encodeState(&v, st)
}

// newSaved returns what to save, without the state. The caller holds s.mu.
func (s *Session) newSaved() session.Saved {
	s.initCheckpoint().seq++
	return session.Saved{
		Lease:  session.Lease{ID: s.ID, Node: s.node.cfg.ID, Epoch: s.epoch},
		Stream: s.name, Seq: s.checkpoint.seq, TTL: s.node.leaseTTL(),
	}
}

// encodeState adds the snapshot of the application and encodes the state. The caller
// holds s.callbackLock.
func (s *Session) encodeState(v *session.Saved, st sessionState) error {
	var err error
	if st.Snapshot, err = s.takeSnapshot(); err != nil {
		return err
	}
	v.State, err = json.Marshal(st)
	return err
}

// takeSnapshot returns the snapshot of the application. If the application was not
// notified of the session yet, it returns the snapshot that is waiting to be
// restored. The caller holds s.callbackLock.
func (s *Session) takeSnapshot() (b []byte, err error) {
	m, ok := s.node.cfg.App.(Mover)
	switch {
	case !ok:
		return nil, nil
	case s.app == appUnaware:
		return s.snapshot, nil
	}
	err = errors.New("node: the application panicked")
	func() {
		defer s.recovered()
		b, err = m.Snapshot(s)
	}()
	if err == nil && len(b) > MaxSnapshot {
		err = fmt.Errorf("node: the snapshot has %d bytes, the limit is %d", len(b), MaxSnapshot)
	}
	return b, err
}

// decodeState decodes the stored state of a session. It returns nil if there is none
// or it cannot be read.
func (n *Node) decodeState(rec session.Record, found session.StoredState) *sessionState {
	if found.State == nil {
		return nil
	}
	st := sessionState{stream: found.Stream, seq: found.Seq, state: found.State}
	if err := json.Unmarshal(found.State, &st); err != nil || st.Version != sessionStateVersion || st.Session != rec.ID {
		n.log.Warn("stored state of the session cannot be read, so its stream is reset", "session", rec.ID, "version", st.Version, "state_session", st.Session, "error", err)
		return nil
	}
	// The record may name another stream, because a renewal was late or because a
	// stream was begun on which no message has passed.
	st.HasStream = st.HasStream && found.Stream != ""
	return &st
}

// restore fills a new session from its stored state. Whether the stream continues is
// decided when the client attaches.
func (s *Session) restore(st *sessionState) {
	s.initCheckpoint().seq, s.checkpoint.done = st.seq, st.seq
	s.keys = newPushKeys(st.Keys)
	s.snapshot = st.Snapshot
	s.checkpoint.stale = st.Snapshot != nil // the stored copy is used up
	s.prevName, s.prevWhy = st.Lost, st.Why
	if !st.HasStream {
		return
	}
	s.name = st.stream
	s.stream = stream.Restore(s.node.streamLimits(), stream.State{Acked: st.Acked, Kept: st.Kept, Received: st.Received})
	s.checkpoint.released = s.stream.Sent() // the store has these frames
	s.client, s.attempt = st.Client, st.Attempt
}

// continues reports whether the named stream can continue from this state.
func (st *sessionState) continues(name string) bool {
	return st != nil && st.HasStream && name != "" && st.stream == name
}

// notifyRestore passes the stored snapshot to the application. The caller holds
// s.callbackLock.
func (s *Session) notifyRestore() {
	m, ok := s.node.cfg.App.(Mover)
	b := s.snapshot
	s.snapshot = nil
	if !ok || b == nil {
		return
	}
	defer s.recovered()
	if err := m.Restore(s, b); err != nil {
		s.node.metrics.restoreFailed.Inc()
		s.node.log.Error("application failed to restore the snapshot", "session", s.ID, "user", s.User, "error", err)
	}
}
