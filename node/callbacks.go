package node

import (
	"log/slog"
	"runtime/debug"

	"github.com/usher-broker/usher/proto"
)

// This file holds the calls of the App. s.callbackLock is held during each.

// ensureOpened notifies the App of the session, with Opened and Restore, if it was
// not notified yet.
func (s *Session) ensureOpened() {
	if s.opened {
		return
	}
	s.opened = true
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
	s.appAttached = false
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
	s.appAttached = false // or Detached could follow
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
