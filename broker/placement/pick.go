package placement

import (
	"time"

	"github.com/usher-broker/usher/proto"
)

// Tick brings up to date what changes with time alone. It is to be called
// every 100 ms, and costs time proportional to the number of nodes.
func (l *Least) Tick(now time.Time) {
	at := l.at(now)
	dt := min(max(at-l.ticked, 0), time.Second)
	l.ticked = at
	l.share.decay(dt, l.cfg.ShareMemory)
	l.perOwn = 1 / l.share.value()
	l.refresh(at)
	for _, g := range l.pools {
		l.refill(g, at, dt)
	}
}

// refill gives the nodes of a pool the boosted picks of the time dt. What was
// not used is kept for a quarter of a second only: a node's peak must stay near
// its rate.
func (l *Least) refill(g *group, at, dt time.Duration) {
	for _, n := range g.members {
		ramp := min(float64(at-n.since)/float64(l.cfg.Ramp), 1)
		rate := float64(n.capacity) / l.cfg.FillTime.Seconds() / l.perOwn * ramp
		n.tokens = min(n.tokens+rate*dt.Seconds(), max(1, rate/4))
	}
}

// Pick returns the id of the node for a session and counts it as on its way
// there. It fails with ErrNoCapacity or ErrNoNodes. It costs the time to look
// at a few nodes, and all of them only when none is eligible.
func (l *Least) Pick(now time.Time, h Hints) (string, error) {
	at := l.at(now)
	if l.stale {
		l.refresh(at)
	}
	if h.Pool == "" {
		h.Pool = proto.DefaultPool
	}
	pool := l.pools[h.Pool]
	if pool == nil {
		return "", ErrNoNodes
	}
	var n *node
	if h.Region != "" {
		if region := l.regions[regionKey{h.Pool, h.Region}]; region != nil {
			n = l.choose(region, at, h)
		}
	}
	if n == nil {
		n = l.choose(pool, at, h)
	}
	if n == nil {
		var err error
		if n, err = l.search(pool, at, h); err != nil {
			return "", err
		}
	}
	n.pending.add(at)
	// Every pick counts against the bound on boosted ones: it is the rate at
	// which a node is filled that is bounded.
	n.tokens = max(n.tokens-1, -1)
	return n.peer.ID, nil
}

// choose returns an eligible node, or nil when it finds none.
func (l *Least) choose(g *group, at time.Duration, h Hints) *node {
	exclude := h.Exclude
	if len(g.open) == 0 {
		return nil
	}
	if h.Balance {
		return l.emptiest(g, at, exclude)
	}
	if n := l.boost(g, at, exclude); n != nil {
		return n
	}
	if len(g.open) <= l.cfg.Few {
		return l.leastOfAll(g, at, exclude)
	}
	var best *node
	var least float64
	total := g.upTo[len(g.upTo)-1]
	// Those drawn may have become ineligible since the refresh: draw a few
	// more for them.
	for drawn, seen := 0, 0; drawn < 3*l.cfg.Candidates && seen < l.cfg.Candidates; drawn++ {
		c := g.draw(l.rng.Uint64N(total))
		if !l.may(c.n, at, exclude) {
			continue
		}
		seen++
		if key := c.key(l.perOwn); best == nil || key < least {
			best, least = c.n, key
		}
	}
	if best == nil {
		return l.leastOfAll(g, at, exclude)
	}
	return best
}

// boost returns an underfull node that may be filled faster, if there is one.
// They take turns; no more are looked at than there are candidates.
func (l *Least) boost(g *group, at time.Duration, exclude string) *node {
	for range min(l.cfg.Candidates, len(g.boosted)) {
		g.cursor = (g.cursor + 1) % len(g.boosted)
		if n := g.open[g.boosted[g.cursor]].n; n.tokens >= 1 && l.may(n, at, exclude) {
			return n
		}
	}
	return nil
}

func (l *Least) leastOfAll(g *group, at time.Duration, exclude string) *node {
	var best *node
	var least float64
	// Beginning anywhere keeps equals from being picked in the same order by
	// every broker.
	from := l.rng.IntN(len(g.open))
	for i := range g.open {
		c := g.open[(from+i)%len(g.open)]
		if !l.may(c.n, at, exclude) {
			continue
		}
		if key := c.key(l.perOwn); best == nil || key < least {
			best, least = c.n, key
		}
	}
	return best
}

// emptiest returns the eligible node with the least load. How fast it is filled
// is bounded by those who ask (Overloaded).
func (l *Least) emptiest(g *group, at time.Duration, exclude string) *node {
	var best *node
	var least float64
	for _, c := range g.open {
		c.handicap = 0
		if key := c.key(l.perOwn); l.may(c.n, at, exclude) && (best == nil || key < least) {
			best, least = c.n, key
		}
	}
	return best
}

func (l *Least) may(n *node, at time.Duration, exclude string) bool {
	n.pending.advance(at)
	return l.level(n, at) == eligible && n.peer.ID != exclude
}

// search looks through all nodes of the pool for the one that takes the least
// overlooking: of equals, one in the region asked for, then the least loaded.
func (l *Least) search(g *group, at time.Duration, h Hints) (*node, error) {
	var best *node
	var bestLevel level
	var bestFar bool
	var least float64
	err := ErrNoNodes
	from := l.rng.IntN(len(g.members))
	for i := range g.members {
		n := g.members[(from+i)%len(g.members)]
		if n.peer.ID == h.Exclude {
			continue
		}
		n.pending.advance(at)
		lv := l.level(n, at)
		if lv == full {
			err = ErrNoCapacity
		}
		if lv >= full {
			continue
		}
		far := h.Region != "" && n.peer.Region != h.Region
		key := candidate{n: n}.key(l.perOwn)
		if best == nil || before(lv, far, key, bestLevel, bestFar, least) {
			best, bestLevel, bestFar, least = n, lv, far, key
		}
	}
	if best == nil {
		return nil, err
	}
	return best, nil
}

func before(lv level, far bool, key float64, lv2 level, far2 bool, key2 float64) bool {
	switch {
	case lv != lv2:
		return lv < lv2
	case far != far2:
		return !far
	}
	return key < key2
}
