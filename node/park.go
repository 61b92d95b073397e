package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// Mover is an App whose sessions take along what it knows of them when they
// leave this node, and which the next node is told when this one dies. Both
// methods are called as those of App are, one at a time for each session.
type Mover interface {
	App

	// Snapshot returns what the session's next node needs to know, at most
	// MaxSnapshot bytes. The session may stay all the same: Closed says when it
	// does not. With an error, or more bytes, it stays where it is as long as it
	// can, and if its node ends it starts anew at the next one, which is told of a
	// reset.
	Snapshot(s *Session) ([]byte, error)

	// Restore hands over, at the next node, what Snapshot returned last. It comes
	// after Opened and before Resumed, or before Reset if the node died: then what
	// happened after that snapshot is not in it, unless the node has
	// Config.Checkpoint. An error is logged and counted, and the session goes on
	// without.
	Restore(s *Session, snapshot []byte) error
}

// MaxSnapshot bounds what Mover.Snapshot may return, in bytes.
const MaxSnapshot = 64 << 10

// parked is a session as it travels from one node to the next, through the
// store: its stream, and what the application knows.
type parked struct {
	Version  int      `json:"v"`
	Session  string   `json:"session"`
	Whole    bool     `json:"whole"` // the stream is here and may go on; otherwise Snapshot is all there is
	Acked    uint64   `json:"acked,omitempty"`
	Received uint64   `json:"received,omitempty"`
	Kept     [][]byte `json:"kept,omitempty"`
	Client   string   `json:"client,omitempty"`
	Attempt  *uint64  `json:"attempt,omitempty"`
	Keys     []string `json:"keys,omitempty"` // of messages pushed
	Lost     string   `json:"lost,omitempty"` // the stream that ended here, if none has begun since
	Why      string   `json:"why,omitempty"`  // and why
	Snapshot []byte   `json:"snapshot,omitempty"`

	stream string
	seq    uint64
	state  []byte // all of it, as it was read
}

const parkedVersion = 3

// parkers is how many sessions are parked at a time.
const parkers = 64

// parkAll parks sessions and closes their connections, until ctx ends. It
// returns how many of them had one.
func (n *Node) parkAll(ctx context.Context, list []*Session) (cut int) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, parkers)
	for _, s := range list {
		if !s.owns(nil) {
			cut++
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			n.park(ctx, s)
		})
	}
	wg.Wait()
	return cut
}

// park freezes the session for good, lays its stream down in the store for the
// next node, and only then tells the client to go there. What could not be
// parked is lost and told as that: the next node has never heard of the stream.
func (n *Node) park(ctx context.Context, s *Session) {
	result := "busy" // the application holds it; its session cannot be frozen
	if s.app.LockUntil(ctx) {
		defer s.app.Unlock()
		if !s.freeze() {
			return // it is over
		}
		result = "ok"
		v, err := s.state()
		if err == nil {
			v.Leave = true
			ctx, cancel := context.WithTimeout(ctx, n.cfg.StoreTimeout)
			err = n.cfg.Store.Save(ctx, []session.Saved{v})[0]
			cancel()
		}
		if err != nil {
			result = "failed"
			n.log.Warn("session leaves without its stream", "session", s.ID, "user", s.User, "error", err)
		}
	}
	n.metrics.parked.WithLabelValues(result).Inc()
	n.end(s, proto.CloseGoingAway, "", !n.cfg.Checkpoint || result == "ok")
}

// awaitMove waits until whoever froze the session, and holds s.app, is done with
// it. While the store does not say what became of a move that may take long:
// then it reports false.
func (s *Session) awaitMove() bool {
	ctx, cancel := context.WithTimeout(context.Background(), moveTimeout)
	defer cancel()
	if !s.app.LockUntil(ctx) {
		return false
	}
	s.app.Unlock()
	return true
}

// freeze ends sending and receiving until thaw. It reports whether the session
// is still there. s.app is held, so that every message that was taken in has
// been handled.
func (s *Session) freeze() bool {
	s.tellOwed() // or nobody would be told
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endCode != 0 || s.frozen {
		return false
	}
	s.frozen = true
	return true
}

// thaw lets a session go on that was to leave and did not.
func (s *Session) thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = false
	if s.conn != nil {
		s.conn.kick()
	}
}

// state returns the whole session as the store keeps it. s.app is held.
func (s *Session) state() (session.Saved, error) {
	s.mu.Lock()
	st := parked{Version: parkedVersion, Session: s.ID, Client: s.client, Attempt: s.attempt, Keys: s.keys.list()}
	if s.stream != nil {
		half := s.stream.State()
		st.Whole, st.Acked, st.Received, st.Kept = true, half.Acked, half.Received, half.Kept
	} else {
		st.Lost, st.Why = s.prevName, s.prevWhy
	}
	v := s.save()
	s.mu.Unlock()
	return v, s.pack(&v, st)
}

// save returns what to save, but for the state. s.mu is held.
func (s *Session) save() session.Saved {
	s.saving().seq++
	return session.Saved{
		Lease:  session.Lease{ID: s.ID, Node: s.node.cfg.ID, Epoch: s.epoch},
		Stream: s.name, Seq: s.saves.seq, TTL: s.node.leaseTTL(),
	}
}

// pack adds what the application knows, and encodes. s.app is held.
func (s *Session) pack(v *session.Saved, st parked) error {
	var err error
	if st.Snapshot, err = s.askSnapshot(); err != nil {
		return err
	}
	v.State, err = json.Marshal(st)
	return err
}

// askSnapshot returns what the application knows, or, if it does not know of
// the session yet, what it will be told. s.app is held.
func (s *Session) askSnapshot() (b []byte, err error) {
	m, ok := s.node.cfg.App.(Mover)
	switch {
	case !ok:
		return nil, nil
	case !s.opened:
		return s.snapshot, nil
	}
	err = errors.New("node: the application panicked")
	func() {
		defer s.recovered()
		b, err = m.Snapshot(s)
	}()
	if err == nil && len(b) > MaxSnapshot {
		err = fmt.Errorf("node: a snapshot of %d bytes, more than %d", len(b), MaxSnapshot)
	}
	return b, err
}

// read makes sense of what the store has of a session, or returns nil.
func (n *Node) read(rec session.Record, found session.StoredState) *parked {
	if found.State == nil {
		return nil
	}
	st := parked{stream: found.Stream, seq: found.Seq, state: found.State}
	if err := json.Unmarshal(found.State, &st); err != nil || st.Version != parkedVersion || st.Session != rec.ID {
		n.log.Error("parked session cannot be read", "session", rec.ID, "version", st.Version, "of", st.Session, "error", err)
		return nil
	}
	// The record may name another stream: a renewal that was held up, or one that
	// was begun and of which nothing has passed.
	st.Whole = st.Whole && found.Stream != ""
	return &st
}

// unpark takes into a session that was just made what was laid down of it.
// Whether the stream goes on is seen when the client attaches.
func (s *Session) unpark(st *parked) {
	s.saving().seq, s.saves.done = st.seq, st.seq
	s.keys = newPushKeys(st.Keys)
	s.snapshot = st.Snapshot
	s.saves.stale = st.Snapshot != nil // nobody else has it now
	s.prevName, s.prevWhy = st.Lost, st.Why
	if !st.Whole {
		return
	}
	s.name = st.stream
	s.stream = stream.Restore(s.node.streamLimits(), stream.State{Acked: st.Acked, Kept: st.Kept, Received: st.Received})
	s.saves.released = s.stream.Sent() // the store has it
	s.client, s.attempt = st.Client, st.Attempt
	s.moved = true
}

// continues reports whether the stream of that name can go on from here.
func (st *parked) continues(name string) bool {
	return st != nil && st.Whole && name != "" && st.stream == name
}

// tellRestore hands the snapshot to the application. s.app is held.
func (s *Session) tellRestore() {
	m, ok := s.node.cfg.App.(Mover)
	b := s.snapshot
	s.snapshot = nil
	if !ok || b == nil {
		return
	}
	defer s.recovered()
	if err := m.Restore(s, b); err != nil {
		s.node.metrics.restoreFailed.Inc()
		s.node.log.Error("application did not take its snapshot", "session", s.ID, "user", s.User, "error", err)
	}
}
