package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/usher-broker/usher/proto"
)

// leaveInterval is how often the node looks whom to ask to leave.
const leaveInterval = 50 * time.Millisecond

// askAgain is the time after which a client that came back to this node is
// asked again to leave: there may be no other node yet.
const askAgain = 5 * time.Second

// leaving asks clients to leave, while there is a reason to, until ctx ends.
func (n *Node) leaving(ctx context.Context) {
	t := time.NewTicker(leaveInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			n.mu.RLock()
			d := n.drain
			n.mu.RUnlock()
			if d != nil {
				n.stepDrain(ctx, d, now)
			} else {
				n.stepShed(ctx, now)
			}
		}
	}
}

// ask asks the client to leave, unless it was a moment ago, or the application
// holds the session. detached says that there is nobody to ask.
func (s *Session) ask(g proto.GoAway, now time.Time) (asked, detached bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn
	switch {
	case s.endCode != 0 || s.held || s.frozen:
		return false, false
	case c == nil:
		return false, true
	case c.asked || c.urgent != nil || at(now) < s.askedAt+instant(askAgain):
		return false, false
	}
	c.asked, s.askedAt = true, at(now)
	c.urgent = proto.AppendControl(nil, proto.Control{Type: proto.TypeGoAway, GoAway: g})
	c.kick()
	return true, false
}

func (s *Session) isHeld() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

const (
	// shedOrder is how long an order to shed sessions holds.
	shedOrder = 3 * time.Second
	// shedBy is the time that a client asked for the sake of balance has.
	shedBy = 20 * time.Second
)

// shed is an order to hold fewer sessions.
type shed struct {
	target uint32
	until  time.Time
	tokens float64 // sessions that may be asked now
	last   time.Time
}

// shedTo has the node ask sessions to leave until it holds no more than the
// target.
func (n *Node) shedTo(target uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shed.target, n.shed.until = target, time.Now().Add(shedOrder)
}

// stepShed asks some, those first that have been idle longest.
func (n *Node) stepShed(ctx context.Context, now time.Time) {
	few := n.shedNow(now)
	if few == 0 {
		return
	}
	list, leaving := n.idlest(now)
	few = min(few, len(n.all())-leaving-int(n.shedTarget()))
	if few <= 0 {
		return
	}
	list = list[:min(few, len(list))]
	n.mu.Lock()
	n.shed.tokens -= float64(len(list))
	n.mu.Unlock()
	for _, s := range list {
		s.setLeaving(now.Add(shedBy))
	}
	// The brokers read in the store that these sessions are to go elsewhere.
	n.ledger.renew(ctx, list, now)
	for _, s := range list {
		if asked, _ := s.ask(proto.GoAway{Reason: "rebalance", ByMS: shedBy.Milliseconds()}, now); asked {
			n.metrics.goaways.WithLabelValues("rebalance").Inc()
		}
	}
}

// shedNow returns how many may be asked now.
func (n *Node) shedNow(now time.Time) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := &n.shed
	if !now.Before(d.until) || uint32(len(n.sessions)) <= d.target {
		d.last = now
		return 0
	}
	d.tokens = min(d.tokens+n.cfg.ShedRate*now.Sub(d.last).Seconds(), max(n.cfg.ShedRate, 1))
	d.last = now
	return int(d.tokens)
}

func (n *Node) shedTarget() uint32 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.shed.target
}

// idlest returns the sessions that may be asked to leave, the longest idle
// first, and how many are leaving already.
func (n *Node) idlest(now time.Time) (list []*Session, leaving int) {
	type idle struct {
		s    *Session
		used instant
	}
	var all []idle
	for _, s := range n.all() {
		s.mu.Lock()
		switch {
		case s.leaving != 0:
			leaving++
		case s.group != "": // they share a node
		case s.conn != nil && !s.held && !s.frozen && s.endCode == 0 && at(now) >= s.askedAt+instant(askAgain):
			all = append(all, idle{s, s.used})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b idle) int { return cmp.Compare(a.used, b.used) })
	for _, i := range all {
		list = append(list, i.s)
	}
	return list, leaving
}

func (s *Session) setLeaving(until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = at(until)
}
