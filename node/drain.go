package node

import (
	"context"
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
	over     bool // the last session has left, or the deadline has passed
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
	live := len(n.all())
	n.mu.Lock()
	defer n.mu.Unlock()
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
	held := 0
	for _, s := range n.all() {
		if s.isHeld() {
			held++
		}
	}
	return &proto.Drain{
		Total: uint32(d.total), Remaining: uint32(live), Held: uint32(held), Cut: d.cut.Load(),
		Deadline: d.deadline, Keep: d.plan.Keep,
	}
}

// stepDrain does the part of the drain that is due now.
func (n *Node) stepDrain(ctx context.Context, d *drain, now time.Time) {
	list := n.all()
	if len(list) > 0 && !now.Before(d.deadline) {
		n.cutRemaining(ctx, d, list)
		n.endDrain(d, time.Now())
		return
	}
	if len(list) == 0 {
		n.endDrain(d, now)
		return
	}
	// Sessions without a connection cannot be asked; they are persisted right away.
	allowed := d.allowed(now)
	for _, s := range list {
		if d.asked.Load() >= allowed {
			break
		}
		switch asked, detached := s.sendGoAway(proto.GoAway{Reason: "drain", ByMS: d.deadline.Sub(now).Milliseconds()}, now); {
		case detached:
			if n.tryPersist(s) {
				d.asked.Add(1)
			}
		case asked:
			n.metrics.goaways.WithLabelValues("drain").Inc()
			d.asked.Add(1)
		}
	}
}

// drainGrace is how long a drain waits, after its deadline, until the remaining
// sessions are persisted.
const drainGrace = 2 * time.Second

// cutRemaining persists the sessions that are left at the deadline. A session whose
// callback does not return within drainGrace keeps its stream and stays. It leaves
// when the callback returns, and Shutdown ends it.
func (n *Node) cutRemaining(ctx context.Context, d *drain, list []*Session) {
	n.mu.RLock()
	over := d.over
	n.mu.RUnlock()
	if over {
		for _, s := range list {
			n.tryPersist(s)
		}
		return
	}
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
