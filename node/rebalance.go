package node

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/usher-broker/usher/proto"
)

const (
	// goAwayPause is the shortest time between two steps of a drain or a rebalance that
	// its rate paces. Clients that may be asked within it are asked together.
	goAwayPause = 10 * time.Millisecond
	// goAwayRetry is how long the node waits before it asks a client to leave again. A
	// client may have come back to this node because there is no other node yet.
	goAwayRetry = 5 * time.Second
	// forever is the wait for something that does not depend on time.
	forever time.Duration = math.MaxInt64
)

// runGoAways asks clients to leave, for a drain or a rebalance, until ctx ends. It
// sleeps until Node.drainQueue is signaled, or until the time that the last step has
// returned.
func (n *Node) runGoAways(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.drainQueue.wake:
		case <-t.C:
		}
		t.Stop()
		if wait := n.stepGoAways(ctx, time.Now()); wait != forever {
			t.Reset(max(wait, goAwayPause))
		}
	}
}

// stepGoAways does the part of a drain or a rebalance that is due now. It returns how
// long to wait for the next part if nothing else happens.
func (n *Node) stepGoAways(ctx context.Context, now time.Time) (wait time.Duration) {
	n.mu.RLock()
	d := n.drain
	n.mu.RUnlock()
	if d != nil {
		return n.stepDrain(ctx, d, now)
	}
	return n.stepShed(ctx, now)
}

// goAwayResult says what sendGoAway did.
type goAwayResult uint8

const (
	goAwayRefused  goAwayResult = iota // the session cannot be asked now; update is called when that changes
	goAwaySent                         // the client is asked
	goAwayTooSoon                      // the client was asked a moment ago, on another connection
	goAwayDetached                     // there is no connection to ask on
)

// sendGoAway asks the client to leave. It does nothing if the client was asked a
// moment ago or the application holds the session. retry is when a client that was
// asked too recently may be asked again.
func (s *Session) sendGoAway(g proto.GoAway, now time.Time) (result goAwayResult, retry instant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, retry := s.conn, s.goAwayAt+instant(goAwayRetry)
	switch {
	case s.phase >= moving || s.held:
		return goAwayRefused, 0
	case c == nil:
		return goAwayDetached, 0
	case c.stage != connOpen || c.urgent != nil:
		return goAwayRefused, 0
	case at(now) < retry:
		return goAwayTooSoon, retry
	}
	c.stage, s.goAwayAt = connAsked, at(now)
	c.urgent = proto.AppendControl(nil, proto.Control{Type: proto.TypeGoAway, GoAway: g})
	s.schedule(now) // the client may have to be gone by s.leaving
	c.wakeWriter()
	return goAwaySent, 0
}

const (
	// shedOrderTTL is how long an order to shed sessions is valid.
	shedOrderTTL = 3 * time.Second
	// shedDeadline is how long a client has to leave for a rebalance.
	shedDeadline = 20 * time.Second
	// shedLooks limits how many sessions one step looks at.
	shedLooks = 1024
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
	now := time.Now()
	if !now.Before(n.shed.until) {
		n.shed.last = now // no tokens for the time without an order
	}
	n.shed.target, n.shed.until = target, now.Add(shedOrderTTL)
	n.drainQueue.signal()
}

// stepShed asks the sessions that may be asked now to leave, the longest idle first.
// It returns how long to wait until more may be asked. If that depends on anything but
// time, the next order wakes the loop: orders are repeated.
func (n *Node) stepShed(ctx context.Context, now time.Time) (wait time.Duration) {
	count, wait := n.shedAllowance(now)
	if count == 0 {
		return wait
	}
	list, _ := n.longestIdle(count, now)
	if len(list) == 0 {
		return forever
	}
	n.spendShed(len(list))
	for _, s := range list {
		s.setLeaving(at(now.Add(shedDeadline)))
	}
	// The brokers read in the store that these sessions are to move to other nodes.
	n.renewNow(ctx, list)
	for _, s := range list {
		g := proto.GoAway{Reason: "rebalance", ByMS: shedDeadline.Milliseconds()}
		switch result, _ := s.sendGoAway(g, now); result {
		case goAwaySent:
			n.metrics.goaways.WithLabelValues("rebalance").Inc()
		case goAwayDetached: // the broker moves it when its client asks
		default:
			s.setLeaving(0) // it was not asked, so it may stay
		}
	}
	return 0
}

// shedAllowance returns how many sessions may be asked now. If the answer is 0, wait is
// how long until it is at least 1, or forever if that does not depend on time.
func (n *Node) shedAllowance(now time.Time) (count int, wait time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := &n.shed
	since := now.Sub(d.last).Seconds()
	d.last = now
	over := len(n.sessions) - int(n.leaving.Load()) - int(d.target)
	if !now.Before(d.until) || over <= 0 {
		return 0, forever
	}
	d.tokens = min(d.tokens+n.cfg.ShedRate*max(since, 0), max(n.cfg.ShedRate, 1))
	if d.tokens < 1 {
		seconds := (1 - d.tokens) / n.cfg.ShedRate
		return 0, time.Duration(min(seconds, shedOrderTTL.Seconds()) * float64(time.Second))
	}
	return min(int(d.tokens), over), 0
}

// spendShed records that count sessions are asked.
func (n *Node) spendShed(count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shed.tokens -= float64(count)
}

// longestIdle returns up to count sessions that may be asked to leave, the longest
// idle first, and how many it has looked at: at most shedLooks. If it has looked at
// so many without finding enough, the recorded uses are far out of date, and it adds
// the longest idle of those that it has looked at.
func (n *Node) longestIdle(count int, now time.Time) (list []*Session, looked int) {
	var removed []*Session
	var corrected []idleSession
	for ; looked < shedLooks && len(list) < count; looked++ {
		s, recorded := n.idle.first()
		if s == nil {
			break
		}
		switch used, may := s.lookIdle(recorded, now); {
		case !may:
			removed = append(removed, s)
		case used > recorded:
			corrected = append(corrected, idleSession{s, used})
		default:
			list, removed = append(list, s), append(removed, s)
		}
	}
	if looked == shedLooks {
		list = append(list, longestOf(corrected, list, count-len(list))...)
	}
	for _, s := range removed { // looked at once; those that may still be asked later go back
		s.mu.Lock()
		n.idle.set(s, s.used, s.mayRebalance())
		s.mu.Unlock()
	}
	return list, looked
}

// lookIdle returns the last use of the first session of the heap, and whether it may
// be asked to leave now. It corrects the recorded use if it is out of date. Otherwise
// it removes the session from the heap; the caller puts it back.
func (s *Session) lookIdle(recorded instant, now time.Time) (used instant, may bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	may = s.mayRebalance() && at(now) >= s.goAwayAt+instant(goAwayRetry)
	s.node.idle.set(s, s.used, may && s.used > recorded)
	return s.used, may
}

// idleSession is a session and its last use.
type idleSession struct {
	session *Session
	used    instant
}

// longestOf returns the longest idle sessions of from, at most count, without those in
// taken.
func longestOf(from []idleSession, taken []*Session, count int) (list []*Session) {
	seen := make(map[*Session]bool, len(from))
	for _, s := range taken {
		seen[s] = true
	}
	slices.SortFunc(from, func(a, b idleSession) int { return cmp.Compare(a.used, b.used) })
	for _, i := range from {
		if len(list) >= count {
			break
		}
		if !seen[i.session] {
			seen[i.session] = true
			list = append(list, i.session)
		}
	}
	return list
}
