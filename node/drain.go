package node

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/proto"
)

// DrainPlan says how a node gives its sessions away.
type DrainPlan struct {
	// Window is the time over which clients are asked to leave, evenly. Default 5 s.
	Window time.Duration
	// Rate bounds how many are asked per second. Default 500.
	Rate float64
	// Timeout is the time after which those that are still there are cut: they
	// resume elsewhere all the same. Default 25 s.
	Timeout time.Duration
	// Keep says that Drained is not to be closed: the node stays, empty, until
	// Undrain.
	Keep bool
}

func (p *DrainPlan) setDefaults() {
	setDefault(&p.Window, 5*time.Second)
	setDefault(&p.Rate, 500)
	setDefault(&p.Timeout, 25*time.Second)
}

// with returns the plan with what the request wants otherwise.
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

// drain is one that is under way. The loop of leave.go carries it out.
type drain struct {
	plan     DrainPlan
	began    time.Time
	deadline time.Time
	total    int
	asked    atomic.Int64 // clients asked to leave
	cut      atomic.Uint32
	over     bool // the last has left, or the deadline has passed
}

// Drain has the node give its sessions away. It takes no new ones from now on:
// State is StateDraining. The clients of those it holds are asked to go
// elsewhere, as the plan says; a session that the application holds back stays
// until it is released or the deadline passes. When all are gone, Drained is
// closed, unless the plan says otherwise. Drain returns at once; a drain that
// is under way goes on by the new plan's deadline. The zero plan means the
// defaults.
func (n *Node) Drain(plan DrainPlan) {
	plan.setDefaults()
	now := time.Now()
	live := len(n.all())
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.drain; old != nil && old.over && !old.plan.Keep {
		return // the process is about to end
	}
	d := &drain{plan: plan, began: now, deadline: now.Add(plan.Timeout), total: live}
	if old := n.drain; old != nil { // those asked already have been asked
		d.began, d.total = old.began, max(old.total, live)
		d.asked.Store(old.asked.Load())
		d.cut.Store(old.cut.Load())
	}
	n.drain = d
	n.draining.Store(true)
	n.log.Info("drain begins", "sessions", live, "window", plan.Window, "deadline", d.deadline)
}

// Undrain takes a drain back: the node is given sessions again. Clients that
// were asked to leave come back. It has no effect once Shutdown was called, or
// Drained is closed.
func (n *Node) Undrain() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.drain == nil || n.closed || n.drain.over && !n.drain.plan.Keep {
		return
	}
	n.drain = nil
	n.draining.Store(false)
	n.log.Info("drain taken back", "sessions", len(n.sessions))
}

// Drained is closed when a drain has ended, and the process may.
func (n *Node) Drained() <-chan struct{} { return n.drained }

// Draining returns how far a drain has come, or nil when there is none.
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

// stepDrain does what is due of the drain now.
func (n *Node) stepDrain(ctx context.Context, d *drain, now time.Time) {
	list := n.all()
	if len(list) > 0 && !now.Before(d.deadline) {
		cut := n.parkAll(ctx, list)
		d.cut.Add(uint32(cut))
		n.metrics.drainCut.Add(float64(cut))
		n.log.Warn("drain: the deadline has passed; what was left is cut", "sessions", len(list), "connections", cut)
		list = n.all()
	}
	if len(list) == 0 {
		n.endDrain(d, now)
		return
	}
	// Those without a connection cannot be asked, and need not be.
	allowed := d.allowed(now)
	var away []*Session
	for _, s := range list {
		if d.asked.Load() >= allowed {
			break
		}
		switch asked, detached := s.ask(proto.GoAway{Reason: "drain", ByMS: d.deadline.Sub(now).Milliseconds()}, now); {
		case detached:
			away = append(away, s)
			d.asked.Add(1)
		case asked:
			n.metrics.goaways.WithLabelValues("drain").Inc()
			d.asked.Add(1)
		}
	}
	n.parkAll(ctx, away)
}

// allowed returns how many may have been asked by now: the share of the window
// that has passed, and after it, for those who came back or were released, as
// many as the rate allows.
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
		close(n.drained)
	}
}
