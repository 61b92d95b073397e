package node

import (
	"context"
	"log/slog"
	"runtime/debug"

	"github.com/usher-broker/usher/node/internal/lock"
	"github.com/usher-broker/usher/proto"
)

// This file holds the calls of the App. s.callbackLock is held during each.

// appState is what the App knows of a session. Session.callbackLock protects it.
type appState uint8

const (
	appUnaware  appState = iota // Opened was not called yet
	appAway                     // no connection, or the App was not notified of it yet
	appAttached                 // the App was notified of a connection, and not yet of its end
)

// ensureOpened notifies the App of the session, with Opened and Restore, if it was
// not notified yet.
func (s *Session) ensureOpened() {
	if s.app != appUnaware {
		return
	}
	s.app = appAway
	s.notifyOpened()
	s.notifyRestore()
}

func (s *Session) notifyOpened() {
	defer s.recovered()
	s.node.cfg.App.Opened(s)
}

func (s *Session) notifyMessage(m Message) {
	defer s.recovered()
	s.node.cfg.App.Message(s, m)
}

func (s *Session) notifyDetached() {
	defer s.recovered()
	s.app = appAway
	s.node.cfg.App.Detached(s)
}

func (s *Session) notifyResumed() {
	defer s.recovered()
	s.node.cfg.App.Resumed(s)
}

func (s *Session) notifyReset(r Reset) {
	defer s.recovered()
	s.node.cfg.App.Reset(s, r)
}

func (s *Session) notifyClosed(code proto.CloseCode) {
	defer s.recovered()
	s.app = appAway // or Detached could follow
	s.node.cfg.App.Closed(s, code)
}

// recovered recovers from a panic of the application, so that it does not end the
// node: the sessions of other clients continue.
func (s *Session) recovered() {
	v := recover()
	if v == nil {
		return
	}
	s.node.metrics.panics.Inc()
	s.node.log.Error("application panicked", "session", s.ID, "user", s.User,
		"panic", v, slog.String("stack", string(debug.Stack())))
	s.cut(proto.CloseInternal)
}

// callbackLock serializes the calls of the App for one session. Unlike a sync.Mutex
// it can be waited for until a context ends, because a call may take long.
type callbackLock chan struct{}

func newCallbackLock() callbackLock { return make(callbackLock, 1) }

func (l callbackLock) Lock() {
	l <- struct{}{}
	lock.Locked[lock.Callbacks](l, false)
}

// Unlock unlocks l. Any goroutine may call it.
func (l callbackLock) Unlock() {
	lock.Unlocked(l)
	<-l
}

func (l callbackLock) TryLock() bool {
	select {
	case l <- struct{}{}:
		lock.Locked[lock.Callbacks](l, true)
		return true
	default:
		return false
	}
}

// LockUntil locks l and returns true, or returns false when ctx ends first.
func (l callbackLock) LockUntil(ctx context.Context) bool {
	if l.TryLock() {
		return true
	}
	select {
	case l <- struct{}{}:
		lock.Locked[lock.Callbacks](l, false)
		return true
	case <-ctx.Done():
		return false
	}
}
