package node

import (
	"context"
	"maps"
	"math"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/proto"
)

// DrainPlan says how a node hands over its sessions. A zero field means its default.
type DrainPlan struct {
	// Window is the time over which clients are asked to leave, at an even rate.
	// Default 5 s.
	Window time.Duration
	// Rate limits how many clients are asked per second. Default 500.
	Rate float64
	// Timeout is how long the drain may take. After it the node closes the remaining
	// connections; their sessions still resume on another node. A session whose App
	// callback has not returned 2 s later stays until it returns, or until Shutdown.
	// Default 25 s.
	Timeout time.Duration
	// Keep leaves Drained open when the drain has ended: the node stays, empty, until
	// Undrain.
	Keep bool
	// Final makes this the last drain of the node, because its process ends: Undrain has
	// no effect, and a later plan can neither keep the node nor extend the deadline.
	Final bool
}

func (p *DrainPlan) setDefaults() {
	setDefault(&p.Window, 5*time.Second)
	setDefault(&p.Rate, 500)
	setDefault(&p.Timeout, 25*time.Second)
}

// with returns the plan with the values that the request sets.
func (p DrainPlan) with(req proto.DrainRequest) DrainPlan {
	if req.WindowMS > 0 {
		p.Window = time.Duration(req.WindowMS) * time.Millisecond
	}
	if req.TimeoutMS > 0 {
		p.Timeout = time.Duration(req.TimeoutMS) * time.Millisecond
	}
	p.Keep = req.Keep
	return p
}

// drain is a drain in progress. Node.runGoAways carries it out.
type drain struct {
	plan     DrainPlan
	began    time.Time
	deadline time.Time
	total    int
	asked    atomic.Int64 // clients asked to leave
	cut      atomic.Uint32
	emptied  time.Time // when the last session had left; used by Node.runGoAways only
	over     bool      // the last session has left, or the deadline has passed
}

// Drain makes the node hand over its sessions and returns at once. From now on State
// is proto.StateDraining and the node accepts no new sessions. It asks the clients of
// its sessions to go to another node, at the rate of the plan. A session that the
// application holds (Session.Hold) stays until it is released or the deadline passes.
// When no session is left, the node closes the channel Drained, unless plan.Keep is
// set. If a drain is already in progress, it continues with the new plan and its
// deadline. Only Run can carry out a drain: while it is not running, Drain returns
// ErrNotRunning and changes nothing.
func (n *Node) Drain(plan DrainPlan) error {
	plan.setDefaults()
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	live := len(n.sessions)
	if !n.running {
		return ErrNotRunning
	}
	if old := n.drain; old != nil && old.over && !old.plan.Keep {
		return nil // the process is about to end
	}
	d := &drain{plan: plan, began: now, deadline: now.Add(plan.Timeout), total: live}
	if old := n.drain; old != nil { // clients that were asked already are not asked again
		if old.plan.Final {
			d.plan.Keep, d.plan.Final = false, true
			if d.deadline.After(old.deadline) {
				d.deadline = old.deadline
			}
		}
		d.began, d.total = old.began, max(old.total, live)
		d.asked.Store(old.asked.Load())
		d.cut.Store(old.cut.Load())
	}
	n.drain = d
	n.draining.Store(true)
	n.drainQueue.start(maps.Values(n.sessions))
	n.noteLoad()
	n.log.Info("drain started", "sessions", live, "window", plan.Window, "deadline", d.deadline)
	return nil
}

// Undrain cancels a drain: the node accepts new sessions again. Clients that were
// asked to leave may come back. If there is no drain, Undrain changes nothing. It
// returns ErrStopping if the drain is final, after Shutdown, and after Drained was
// closed.
func (n *Node) Undrain() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed, n.drain != nil && (n.drain.plan.Final || n.drain.over && !n.drain.plan.Keep):
		return ErrStopping
	case n.drain == nil:
		return nil
	}
	n.drain = nil
	n.draining.Store(false)
	n.drainQueue.stop()
	n.noteLoad()
	n.log.Info("drain canceled", "sessions", len(n.sessions))
	return nil
}

// Drained returns a channel that is closed when a drain has ended and the process may
// exit: no session is left, or the deadline has passed. It is closed as well when Run
// ends during a drain, and by Shutdown at the latest. A drain with DrainPlan.Keep does
// not close it.
func (n *Node) Drained() <-chan struct{} { return n.drained }

// Draining returns the progress of a drain, or nil if there is none.
func (n *Node) Draining() *proto.Drain {
	n.mu.RLock()
	d, live := n.drain, len(n.sessions)
	n.mu.RUnlock()
	if d == nil {
		return nil
	}
	return &proto.Drain{
		Total: uint32(d.total), Remaining: uint32(live), Held: uint32(n.held.Load()), Cut: d.cut.Load(),
		Deadline: d.deadline, Keep: d.plan.Keep,
	}
}

// stepDrain does the part of the drain that is due now. It returns how long to wait for
// the next part if nothing else happens. Every event that makes a session due calls
// drainQueue.add. So at any time, a session that the node holds while it drains
//   - was asked to leave on its present connection,
//   - or is held by the application, frozen, or its welcome is not written yet,
//   - or is in the drainQueue: ready, waiting for its time or for a free slot,
//   - or is being persisted.
func (n *Node) stepDrain(ctx context.Context, d *drain, now time.Time) (wait time.Duration) {
	q := &n.drainQueue
	n.mu.RLock()
	live, over := len(n.sessions), d.over
	n.mu.RUnlock()
	switch {
	case over: // what is left could not be persisted at the deadline
		return n.askDue(d, now, math.MaxInt64)
	case live == 0:
		if wait := n.awaitDepartures(d, now); wait > 0 {
			return wait
		}
		n.endDrain(d, now)
		return forever
	case !now.Before(d.deadline):
		n.cutRemaining(ctx, d)
		n.endDrain(d, time.Now())
		q.restart(d, n)
		return 0
	}
	q.readyDue(at(now))
	return min(n.askDue(d, now, d.allowed(now)), d.deadline.Sub(now))
}

// awaitDepartures returns how long a drain without sessions waits for clients that have
// moved and still hold their old connection, because they have not attached to the next
// node yet. It returns 0 if none is left. After drainGrace, or at the deadline, those
// that are left are cut and resume at the next node.
func (n *Node) awaitDepartures(d *drain, now time.Time) time.Duration {
	if d.emptied.IsZero() {
		d.emptied = now
	}
	if n.departing.Load() <= 0 {
		return 0
	}
	return min(d.emptied.Add(drainGrace).Sub(now), d.deadline.Sub(now))
}

// askDue asks the sessions of the queue to leave until allowed were asked. It returns
// how long to wait until the next one can be asked.
func (n *Node) askDue(d *drain, now time.Time, allowed int64) (wait time.Duration) {
	q := &n.drainQueue
	for d.asked.Load() < allowed {
		s := q.take(len(n.persistSlots) < cap(n.persistSlots))
		if s == nil {
			return q.nextRetry(at(now))
		}
		n.askToLeave(d, s, now)
	}
	return min(q.nextRetry(at(now)), d.nextAllowed(now))
}

// askToLeave asks the client of a session that was taken from the queue, or puts the
// session back. A session without a connection cannot be asked; it is persisted right
// away, and so is every session after the deadline.
func (n *Node) askToLeave(d *drain, s *Session, now time.Time) {
	result, retry := goAwayDetached, instant(0)
	if now.Before(d.deadline) {
		result, retry = s.sendGoAway(proto.GoAway{Reason: "drain", ByMS: d.deadline.Sub(now).Milliseconds()}, now)
	} else if s.endError() != nil {
		return
	}
	switch result {
	case goAwaySent:
		n.metrics.goaways.WithLabelValues("drain").Inc()
		d.asked.Add(1)
	case goAwayTooSoon:
		n.drainQueue.retry(s, retry)
	case goAwayDetached:
		select {
		case n.persistSlots <- struct{}{}:
			if _, started := n.startPersist(s, n.releasePersistSlot); started {
				d.asked.Add(1)
			}
		default:
			n.drainQueue.awaitSlot(s)
		}
	}
}

// drainGrace is how long a drain waits, after its deadline, until the remaining
// sessions are persisted.
const drainGrace = 2 * time.Second

// cutRemaining persists the sessions that are left at the deadline. A session whose
// callback does not return within drainGrace keeps its stream and stays. It leaves
// when the callback returns, and Shutdown ends it.
func (n *Node) cutRemaining(ctx context.Context, d *drain) {
	list := n.all()
	cut := 0
	for _, s := range list {
		if !s.owns(nil) {
			cut++
		}
	}
	d.cut.Add(uint32(cut))
	n.metrics.drainCut.Add(float64(cut))
	ctx, cancel := context.WithTimeout(ctx, drainGrace)
	defer cancel()
	attempts := n.persistAll(ctx, list)
	n.awaitPersisted(ctx, attempts...)
	stuck := n.logStuck("session cannot leave: a callback of the application, or a move, has not finished", attempts)
	n.log.Warn("drain deadline passed; the remaining connections are closed", "sessions", len(list), "connections", cut, "stuck", stuck)
}

// allowed returns how many clients may have been asked by now. Within the window it
// is the share of the window that has passed. After the window it grows by the rate,
// for clients that came back or were released.
func (d *drain) allowed(now time.Time) int64 {
	since, window := now.Sub(d.began).Seconds(), d.plan.Window.Seconds()
	rate := min(d.plan.Rate, float64(d.total)/window)
	return int64(math.Ceil(min(since, window)*rate + max(since-window, 0)*d.plan.Rate))
}

// nextAllowed returns how long it takes until allowed exceeds asked. The result may be
// short by a rounding error.
func (d *drain) nextAllowed(now time.Time) time.Duration {
	window := d.plan.Window.Seconds()
	rate := min(d.plan.Rate, float64(d.total)/window)
	began, asked := now.Sub(d.began).Seconds(), float64(d.asked.Load())
	var since float64
	if within := asked / max(rate, 1e-9); within < window {
		since = within
	} else {
		since = window + (asked-window*rate)/d.plan.Rate
	}
	return time.Duration(min(since-began, 1e9) * float64(time.Second)) // at most 30 years, or it overflows
}

func (n *Node) endDrain(d *drain, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if d.over || n.drain != d {
		return
	}
	d.over = true
	n.log.Info("drained", "sessions", d.total, "cut", d.cut.Load(), "took", now.Sub(d.began).Round(time.Millisecond))
	if !d.plan.Keep {
		n.closeDrained()
	}
}

// closeDrained closes the channel that Drained returns.
func (n *Node) closeDrained() { n.drainedOnce.Do(func() { close(n.drained) }) }
