package node

import (
	"log/slog"
	"runtime/debug"

	"github.com/usher-broker/usher/proto"
)

// The calls of the App. s.app is held during each.

// tellFirst tells the App of the session, if it has not been told.
func (s *Session) tellFirst() {
	if s.opened {
		return
	}
	s.opened = true
	s.tellOpened()
	s.tellRestore()
}

func (s *Session) tellOpened() {
	defer s.recovered()
	s.node.cfg.App.Opened(s)
}

func (s *Session) tellMessage(m Message) {
	defer s.recovered()
	s.node.cfg.App.Message(s, m)
}

func (s *Session) tellDetached() {
	defer s.recovered()
	s.told = false
	s.node.cfg.App.Detached(s)
}

func (s *Session) tellResumed() {
	defer s.recovered()
	s.node.cfg.App.Resumed(s)
}

func (s *Session) tellReset(r Reset) {
	defer s.recovered()
	s.node.cfg.App.Reset(s, r)
}

func (s *Session) tellClosed(code proto.CloseCode) {
	defer s.recovered()
	s.told = false // or Detached could follow
	s.node.cfg.App.Closed(s, code)
}

// recovered keeps a panic of the application from ending the node: the
// sessions of others go on.
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
