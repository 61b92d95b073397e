package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/usher-broker/usher/proto"
)

// goAwayInterval is the time between two steps of a drain or a rebalance.
const goAwayInterval = 50 * time.Millisecond

// goAwayRetry is how long the node waits before it asks a client to leave again. A
// client may have come back to this node because there is no other node yet.
const goAwayRetry = 5 * time.Second

// runGoAways asks clients to leave, for a drain or a rebalance, until ctx ends.
func (n *Node) runGoAways(ctx context.Context) {
	t := time.NewTicker(goAwayInterval)
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

// sendGoAway asks the client to leave. It does nothing if the client was asked a
// moment ago or the application holds the session. detached reports that there is no
// connection to ask on.
func (s *Session) sendGoAway(g proto.GoAway, now time.Time) (asked, detached bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn
	switch {
	case s.phase == ended || s.held || s.phase == moving:
		return false, false
	case c == nil:
		return false, true
	case c.goAwaySent || c.urgent != nil || at(now) < s.goAwayAt+instant(goAwayRetry):
		return false, false
	}
	c.goAwaySent, s.goAwayAt = true, at(now)
	c.urgent = proto.AppendControl(nil, proto.Control{Type: proto.TypeGoAway, GoAway: g})
	c.wakeWriter()
	return true, false
}

func (s *Session) isHeld() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

const (
	// shedOrderTTL is how long an order to shed sessions is valid.
	shedOrderTTL = 3 * time.Second
	// shedDeadline is how long a client has to leave for a rebalance.
	shedDeadline = 20 * time.Second
)

// shed is an order to hold fewer sessions.
type shed struct {
	target uint32
	until  time.Time
	tokens float64 // sessions that may be asked now
	last   time.Time
}

// shedTo orders the node to ask sessions to leave until it holds at most target.
func (n *Node) shedTo(target uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shed.target, n.shed.until = target, time.Now().Add(shedOrderTTL)
}

// stepShed asks the sessions that may be asked now to leave, the longest idle first.
func (n *Node) stepShed(ctx context.Context, now time.Time) {
	count := n.shedAllowance(now)
	if count == 0 {
		return
	}
	list, leaving := n.idlest(now)
	count = min(count, len(n.all())-leaving-int(n.shedTarget()))
	if count <= 0 {
		return
	}
	list = list[:min(count, len(list))]
	n.mu.Lock()
	n.shed.tokens -= float64(len(list))
	n.mu.Unlock()
	for _, s := range list {
		s.setLeaving(now.Add(shedDeadline))
	}
	// The brokers read in the store that these sessions are to move to other nodes.
	n.renewer.renew(ctx, list, now)
	for _, s := range list {
		if asked, _ := s.sendGoAway(proto.GoAway{Reason: "rebalance", ByMS: shedDeadline.Milliseconds()}, now); asked {
			n.metrics.goaways.WithLabelValues("rebalance").Inc()
		}
	}
}

// shedAllowance returns how many sessions may be asked now.
func (n *Node) shedAllowance(now time.Time) int {
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

// idlest returns the sessions that may be asked to leave, the longest idle first, and
// how many sessions are leaving already.
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
		case s.group != "": // all sessions of a group stay on one node
		case s.conn != nil && !s.held && s.phase < moving && at(now) >= s.goAwayAt+instant(goAwayRetry):
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
