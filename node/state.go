package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/usher-broker/usher/broker/session"
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
		Lease:  s.node.leases.Holder(s.ID, s.lease.Epoch),
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

// decodeState decodes the stored state of a session. It returns nil if there is none.
// Of a state that cannot be read it returns only what the store knows of it: saves count
// on from its seq.
func (n *Node) decodeState(rec session.Record, found session.StoredState) *sessionState {
	if found.State == nil {
		return nil
	}
	st := sessionState{stream: found.Stream, seq: found.Seq, state: found.State}
	if err := json.Unmarshal(found.State, &st); err != nil || st.Version != sessionStateVersion || st.Session != rec.ID {
		n.log.Warn("stored state of the session cannot be read, so its stream is reset", "session", rec.ID, "version", st.Version, "state_session", st.Session, "error", err)
		return &sessionState{stream: found.Stream, seq: found.Seq, state: found.State}
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

// maxPushKeys is how many message keys a session remembers.
const maxPushKeys = 64

// pushKeys is a ring of the keys of the messages pushed last, oldest first from next
// on. A nil *pushKeys is empty.
type pushKeys struct {
	keys []string
	next int
}

func newPushKeys(keys []string) *pushKeys {
	k := &pushKeys{}
	for _, key := range keys {
		k.add(key)
	}
	return k
}

func (k *pushKeys) has(key string) bool { return k != nil && slices.Contains(k.keys, key) }

func (k *pushKeys) add(key string) {
	if len(k.keys) < maxPushKeys {
		k.keys = append(k.keys, key)
		return
	}
	k.keys[k.next] = key
	k.next = (k.next + 1) % maxPushKeys
}

// list returns the keys, oldest first.
func (k *pushKeys) list() []string {
	if k == nil {
		return nil
	}
	return append(slices.Clone(k.keys[k.next:]), k.keys[:k.next]...)
}

func (n *Node) streamLimits() stream.Limits {
	return stream.Limits{Messages: n.cfg.Limits.UnackedMessages, Bytes: n.cfg.Limits.UnackedBytes}
}
