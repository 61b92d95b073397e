package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// Mover is an App whose sessions take along what it knows of them when they
// leave this node in an orderly way. Both methods are called as those of App
// are, one at a time for each session.
type Mover interface {
	App

	// Snapshot returns what the session's next node needs to know, at most
	// MaxSnapshot bytes. It is followed by Closed. With an error, or more bytes,
	// the session starts anew at its next node, and is told of a reset.
	Snapshot(s *Session) ([]byte, error)

	// Restore hands over, at the next node, what Snapshot returned. It comes
	// after Opened and before Resumed. An error is logged and counted, and the
	// session goes on without.
	Restore(s *Session, snapshot []byte) error
}

// MaxSnapshot bounds what Mover.Snapshot may return, in bytes.
const MaxSnapshot = 64 << 10

// parked is a session as it travels from one node to the next, through the
// store: its stream, and what the application knows.
type parked struct {
	Version  int      `json:"v"`
	Acked    uint64   `json:"acked"`
	Received uint64   `json:"received"`
	Kept     [][]byte `json:"kept,omitempty"`
	Client   string   `json:"client,omitempty"`
	Attempt  *uint64  `json:"attempt,omitempty"`
	Snapshot []byte   `json:"snapshot,omitempty"`
}

const parkedVersion = 1

// parkers is how many sessions are parked at a time.
const parkers = 64

// parkAll parks every session and closes its connection, until ctx ends.
func (n *Node) parkAll(ctx context.Context) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, parkers)
	for _, s := range n.all() {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			n.park(ctx, s)
		})
	}
	wg.Wait()
}

// park freezes the session for good, lays its stream down in the store for the
// next node, and only then tells the client to go there. What could not be
// parked is lost and told as that: the next node has never heard of the stream.
func (n *Node) park(ctx context.Context, s *Session) {
	if !lockUntil(ctx, &s.app) { // the application holds it; its session cannot be frozen
		n.metrics.parked.WithLabelValues("busy").Inc()
		n.end(s, proto.CloseGoingAway, "", true)
		return
	}
	defer s.app.Unlock()
	if st, name, ok := s.freeze(); ok {
		err := n.layDown(ctx, s, name, st)
		result := "ok"
		if err != nil {
			result = "failed"
			n.log.Warn("session leaves without its stream", "session", s.ID, "user", s.User, "error", err)
		}
		n.metrics.parked.WithLabelValues(result).Inc()
	}
	n.end(s, proto.CloseGoingAway, "", true)
}

// lockUntil locks the mutex unless ctx ends before.
func lockUntil(ctx context.Context, mu *sync.Mutex) bool {
	for !mu.TryLock() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return true
}

// awaitParked waits until park, which holds s.app, is done with the session.
func (s *Session) awaitParked() {
	s.app.Lock()
	defer s.app.Unlock()
}

// freeze ends sending and receiving and returns what there is to park. s.app is
// held, so that every message that was taken in has been handled.
func (s *Session) freeze() (st parked, name string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endCode != 0 || s.frozen || s.stream == nil || s.owed != nil {
		return parked{}, "", false
	}
	s.frozen = true
	half := s.stream.State()
	return parked{
		Version: parkedVersion, Acked: half.Acked, Received: half.Received, Kept: half.Kept,
		Client: s.client, Attempt: s.attempt,
	}, s.name, true
}

func (n *Node) layDown(ctx context.Context, s *Session, name string, st parked) (err error) {
	if m, ok := n.cfg.App.(Mover); ok {
		if st.Snapshot, err = s.askSnapshot(m); err != nil {
			return err
		}
	}
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.StoreTimeout)
	defer cancel()
	lease := session.Lease{ID: s.ID, Node: n.cfg.ID, Epoch: s.epoch}
	return n.cfg.Store.Park(ctx, lease, name, b, n.leaseTTL())
}

// pickUp returns what another node, or an earlier start of this one, has parked
// of the stream, or nil.
func (n *Node) pickUp(ctx context.Context, l session.Lease, name string) (*parked, error) {
	b, err := n.cfg.Store.Unpark(ctx, l, name)
	switch {
	case errors.Is(err, session.ErrUnavailable):
		return nil, err
	case err != nil, b == nil: // the attach that follows says what is wrong
		return nil, nil
	}
	var st parked
	if err := json.Unmarshal(b, &st); err != nil || st.Version != parkedVersion {
		n.log.Error("parked session cannot be read", "session", l.ID, "version", st.Version, "error", err)
		return nil, nil
	}
	return &st, nil
}

// unpark continues the stream in a session that was just made.
func (s *Session) unpark(name string, st *parked) {
	s.name = name
	s.stream = stream.Restore(stream.Limits{
		Messages: s.node.cfg.Limits.UnackedMessages,
		Bytes:    s.node.cfg.Limits.UnackedBytes,
	}, stream.State{Acked: st.Acked, Kept: st.Kept, Received: st.Received})
	s.client, s.attempt = st.Client, st.Attempt
	s.snapshot, s.moved = st.Snapshot, true
}

func (s *Session) askSnapshot(m Mover) (b []byte, err error) {
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
