package usher

import (
	"context"
	"time"

	"github.com/usher-broker/usher/proto"
)

// move is a session on its way to another connection, while the old one still
// carries it. It belongs to the main goroutine; what blocks is done by one
// other, which reports to results.
type move struct {
	session *Session
	old     *conn
	retry   retry

	ctx     context.Context
	cancel  context.CancelFunc
	timer   *time.Timer
	results chan moved
	busy    bool // a result is to come

	asked     bool // the node has asked to leave
	attaching bool // a handshake is under way, and the old connection held
	unclear   bool // one ended without a word: the node may have let it in
	h         handshake
}

// moved is a result: of /v1/reconnect, or of an attempt to attach.
type moved struct {
	at      proto.Assignment
	err     error
	conn    *conn
	welcome proto.Welcome
	loss    *loss
}

func newMove(s *Session, old *conn) *move {
	m := &move{
		session: s, old: old, retry: retry{rand: s.cfg.Rand},
		timer: time.NewTimer(time.Hour), results: make(chan moved, 1),
	}
	m.timer.Stop()
	m.ctx, m.cancel = context.WithCancel(s.ctx)
	return m
}

// stop ends the move and waits for what is under way.
func (m *move) stop() {
	m.cancel()
	m.timer.Stop()
	if !m.busy {
		return
	}
	if r := <-m.results; r.conn != nil {
		r.conn.close(1000, "")
	}
}

// leaveSpread is the time over which clients that were asked to leave at once
// spread. A node asks them one after another, so it need not be long.
const leaveSpread = 2 * time.Second

// ask is the node's wish: leave at a moment between after and by. It is near to
// after, and in the first half, so that there is time for a second attempt.
func (m *move) ask(g proto.GoAway) {
	if m.asked {
		return
	}
	m.asked = true
	span := min(float64(g.ByMS-g.AfterMS)/2, float64(leaveSpread.Milliseconds())) * m.session.cfg.Rand()
	m.timer.Reset(time.Duration((float64(g.AfterMS) + span) * float64(time.Millisecond)))
	m.session.cfg.Logger.Info("asked to leave", "reason", g.Reason, "after_ms", g.AfterMS, "by_ms", g.ByMS)
}

// begin asks auth where to go.
func (m *move) begin() {
	s := m.session
	s.enter(StateChange{State: Moving})
	m.busy = true
	unreachable := s.unreachable
	go func() {
		a, err := s.reconnect(m.ctx, unreachable)
		m.results <- moved{at: a, err: err}
	}()
}

// attach opens the new connection, while the old one is held.
func (m *move) attach() {
	s := m.session
	m.old.hold(true)
	m.attaching, m.busy = true, true
	m.h = s.handshake()
	h := m.h
	go func() {
		c, w, l := s.dial(m.ctx, h)
		m.results <- moved{conn: c, welcome: w, loss: l}
	}()
}

// result takes in what the other goroutine has done. It returns the connection
// that carries the session now, or how the session was lost.
func (m *move) result(r moved) (*conn, *loss) {
	m.busy = false
	s := m.session
	switch {
	case m.attaching:
		return m.arrive(r)
	case r.err == nil:
		m.retry.named(time.Now())
		s.named(r.at)
		m.attach()
		return nil, nil
	}
	s.note(r.err)
	// Even if auth says that the session is over: the node says so too, then,
	// and it is the one to know.
	wait, _ := m.retry.unanswered(hint(r.err))
	m.timer.Reset(wait)
	return nil, nil
}

// arrive is the outcome of an attempt to attach.
func (m *move) arrive(r moved) (*conn, *loss) {
	s := m.session
	m.attaching = false
	l := r.loss
	if l == nil {
		l = s.carry(r.conn, r.welcome, m.h)
		if l == nil {
			m.old.giveUp()
			m.old.close(1000, "")
			return r.conn, nil
		}
	}
	s.note(&l.CutError)
	m.unclear = m.unclear || l.unclear
	m.old.hold(false)
	if l.unopened && !l.refused {
		s.unreachable = m.h.at.Node.ID
	}
	wait, next := m.retry.failed(time.Now(), l.Code)
	if next == doorStop {
		l.local = false // not of the old connection
		return nil, l
	}
	m.timer.Reset(wait)
	return nil, nil
}
