package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

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

func (n *Node) releasePersistSlot() {
	<-n.persistSlots
	n.drainQueue.signal()
}

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
	defer s.unlockCallbacks()
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
	s.unlockCallbacks()
	return true
}
