package usher

import (
	"context"
	"time"

	"github.com/usher-broker/usher/proto"
)

// move moves a session to another connection while the old one still carries it.
// It belongs to the main goroutine. One other goroutine makes the blocking calls and
// sends their outcome to results.
type move struct {
	session *Session
	old     *conn
	retry   retry

	ctx     context.Context
	cancel  context.CancelFunc
	timer   *time.Timer
	results chan moveResult

	phase          movePhase
	outcomeUnknown bool // an attempt ended without a close code: the node may have accepted it
	h              handshake
}

// movePhase says how far a move is.
type movePhase uint8

const (
	moveNone     movePhase = iota // the node has not asked the client to leave
	moveWaits                     // for the time of the next step
	moveAsks                      // auth for a node; the result is still to come
	moveAttaches                  // a handshake is in progress, and the old connection is held; likewise
)

// moveResult is the outcome of /v1/reconnect, or of an attempt to attach.
type moveResult struct {
	at      proto.Assignment
	err     error
	conn    *conn
	welcome proto.Welcome
	loss    *loss
}

func newMove(s *Session, old *conn) *move {
	m := &move{
		session: s, old: old, retry: retry{rand: s.cfg.Rand},
		timer: time.NewTimer(time.Hour), results: make(chan moveResult, 1),
	}
	m.timer.Stop()
	m.ctx, m.cancel = context.WithCancel(s.ctx)
	return m
}

// stop ends the move and waits for the call that is in progress.
func (m *move) stop() {
	m.cancel()
	m.timer.Stop()
	if m.phase < moveAsks {
		return
	}
	if r := <-m.results; r.conn != nil {
		r.conn.close(1000, "")
	}
}

// leaveSpread is the time over which clients spread that were asked to leave at the
// same time. It may be short, because a node asks its clients one after another.
const leaveSpread = 2 * time.Second

// schedule reacts to a goaway: it draws the moment at which to leave, between after
// and by. The moment is close to after and in the first half of the interval, so
// that there is time for a second attempt.
func (m *move) schedule(g proto.GoAway) {
	if m.phase != moveNone {
		return
	}
	m.phase = moveWaits
	span := min(float64(g.ByMS-g.AfterMS)/2, float64(leaveSpread.Milliseconds())) * m.session.cfg.Rand()
	m.timer.Reset(time.Duration((float64(g.AfterMS) + span) * float64(time.Millisecond)))
	m.session.cfg.Logger.Info("the node asked the client to leave", "reason", g.Reason, "after_ms", g.AfterMS, "by_ms", g.ByMS)
}

// start asks auth for a node.
func (m *move) start() {
	s := m.session
	s.enter(StateChange{State: Moving})
	m.phase = moveAsks
	unreachable := s.unreachable
	s.wg.Go(func() {
		a, err := s.reconnect(m.ctx, unreachable)
		m.results <- moveResult{at: a, err: err}
	})
}

// attach opens the new connection and holds the old one.
func (m *move) attach() {
	s := m.session
	m.old.hold(true)
	m.phase = moveAttaches
	m.h = s.handshake()
	h := m.h
	s.wg.Go(func() {
		c, w, l := s.dial(m.ctx, h)
		m.results <- moveResult{conn: c, welcome: w, loss: l}
	})
}

// result processes the outcome of the other goroutine. It returns the connection
// that carries the session now, or the loss that ended the session.
func (m *move) result(r moveResult) (*conn, *loss) {
	s := m.session
	phase := m.phase
	m.phase = moveWaits
	switch {
	case phase == moveAttaches:
		return m.attachResult(r)
	case r.err == nil:
		m.retry.named(time.Now())
		s.setAssignment(r.at)
		m.attach()
		return nil, nil
	}
	s.recordError(r.err)
	// Also if auth says that the session is over: then the node will say so too, and
	// its answer is the one that counts.
	wait, _ := m.retry.unanswered(hint(r.err))
	m.timer.Reset(wait)
	return nil, nil
}

// attachResult processes the outcome of an attempt to attach.
func (m *move) attachResult(r moveResult) (*conn, *loss) {
	s := m.session
	l := r.loss
	if l == nil {
		l = s.adopt(r.conn, r.welcome, m.h)
		if l == nil {
			m.old.giveUp()
			m.old.close(1000, "")
			return r.conn, nil
		}
	}
	s.recordError(&l.CutError)
	m.outcomeUnknown = m.outcomeUnknown || l.outcomeUnknown
	m.old.hold(false)
	if l.unopened && !l.refused {
		s.unreachable = m.h.at.Node.ID
	}
	wait, next := m.retry.failed(time.Now(), l.Code)
	if next == stepStop {
		l.local = false // the error was not on the old connection
		return nil, l
	}
	m.timer.Reset(wait)
	return nil, nil
}
