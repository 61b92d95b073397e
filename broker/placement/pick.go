package placement

import (
	"slices"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Tick updates what changes with time alone. The caller should call it every 100
// ms. It takes time proportional to the number of nodes.
func (t *Table) Tick(now time.Time) {
	at := t.at(now)
	dt := min(max(at-t.ticked, 0), time.Second)
	t.ticked = at
	t.share.decay(dt, t.cfg.ShareMemory)
	t.perOwn = 1 / t.share.value()
	t.refresh(at)
	for _, g := range t.pools {
		t.refill(g, at, dt)
	}
}

// refill adds the boosted picks for the time dt to the nodes of a pool. Unused
// picks are kept for a quarter of a second only, so that a node's peak stays near
// its rate.
func (t *Table) refill(g *group, at, dt time.Duration) {
	for _, n := range g.members {
		ramp := min(float64(at-n.since)/float64(t.cfg.Ramp), 1)
		rate := float64(n.capacity) / t.cfg.FillTime.Seconds() / t.perOwn * ramp
		n.tokens = min(n.tokens+rate*dt.Seconds(), max(1, rate/4))
	}
}

// Pick returns the id of the node for a session and counts it as pending there.
// The errors are ErrNoCapacity and ErrNoNodes. Pick compares a few nodes, and all
// of them only if none is eligible.
func (t *Table) Pick(now time.Time, h Hints) (string, error) {
	at := t.at(now)
	if t.stale {
		t.refresh(at)
	}
	if h.Pool == "" {
		h.Pool = proto.DefaultPool
	}
	pool := t.pools[h.Pool]
	if pool == nil {
		return "", ErrNoNodes
	}
	n := t.prefer(pool, at, h)
	if n == nil {
		var err error
		if n, err = t.search(pool, at, h); err != nil {
			return "", err
		}
	}
	n.pending.add(at)
	// Every pick counts against the limit on boosted ones, because the limit is
	// on the rate at which a node is filled.
	n.tokens = max(n.tokens-1, -1)
	return n.peer.ID, nil
}

// prefer returns an eligible node in the first requested region that has one, or
// nil if no node is eligible.
func (t *Table) prefer(pool *group, at time.Duration, h Hints) *node {
	if h.Region != "" {
		if n := t.choose(t.regions[regionKey{h.Pool, h.Region}], at, h); n != nil {
			return n
		}
	}
	for _, region := range h.Fallback {
		if n := t.choose(t.regions[regionKey{h.Pool, region}], at, h); n != nil {
			return n
		}
	}
	if h.Strict {
		return nil
	}
	return t.choose(pool, at, h)
}

// choose returns an eligible node of the group, or nil if the policy picks none.
func (t *Table) choose(g *group, at time.Duration, h Hints) *node {
	if g == nil || len(g.open) == 0 {
		return nil
	}
	t.current = Candidates{t: t, g: g, at: at, exclude: h.Exclude}
	c := &t.current
	i := -1
	if h.Balance {
		i = c.emptiest()
	} else {
		i = t.policy(h.Pool).Pick(c, h)
	}
	if i < 0 || i >= c.Len() || !c.Open(i) {
		return nil
	}
	return g.open[i].n
}

func (t *Table) policy(pool string) Policy {
	p := t.policies[pool]
	if p == nil {
		p = t.cfg.Policy(pool)
		t.policies[pool] = p
	}
	return p
}

// search looks through all nodes of the pool and returns the one with the lowest
// level; among equals, one in the more preferred region, then the least loaded.
func (t *Table) search(g *group, at time.Duration, h Hints) (*node, error) {
	var best *node
	var bestLevel level
	var bestRank int
	var least float64
	err := ErrNoNodes
	from := t.rng.IntN(len(g.members))
	for i := range g.members {
		n := g.members[(from+i)%len(g.members)]
		rank := h.regionRank(n.peer.Region)
		if n.peer.ID == h.Exclude || rank == notAllowed {
			continue
		}
		n.pending.advance(at)
		lv := t.level(n, at)
		if lv == full {
			err = ErrNoCapacity
		}
		if lv >= full {
			continue
		}
		key := candidate{n: n}.key(t.perOwn)
		if best == nil || before(lv, rank, key, bestLevel, bestRank, least) {
			best, bestLevel, bestRank, least = n, lv, rank, key
		}
	}
	if best == nil {
		return nil, err
	}
	return best, nil
}

// FreeCapacity returns how many sessions with the hints the nodes can take, as
// far as this broker knows.
func (t *Table) FreeCapacity(now time.Time, h Hints) int {
	at := t.at(now)
	if h.Pool == "" {
		h.Pool = proto.DefaultPool
	}
	free := 0
	for _, n := range t.sorted {
		if n.peer.Pool != h.Pool || n.peer.ID == h.Exclude || h.regionRank(n.peer.Region) == notAllowed {
			continue
		}
		n.pending.advance(at)
		if t.level(n, at) < estimatedFull {
			free += int(float64(n.capacity) - n.estimate(t.perOwn))
		}
	}
	return free
}

// notAllowed is the rank of a region that is not allowed.
const notAllowed = -1

// regionRank returns how many regions are preferred to the node's.
func (h Hints) regionRank(region string) int {
	switch i := slices.Index(h.Fallback, region); {
	case h.Region == "" && len(h.Fallback) == 0, region == h.Region && region != "":
		return 0
	case i >= 0 && region != "":
		return i + 1
	case h.Strict:
		return notAllowed
	}
	return len(h.Fallback) + 1
}

func before(lv level, rank int, key float64, lv2 level, rank2 int, key2 float64) bool {
	switch {
	case lv != lv2:
		return lv < lv2
	case rank != rank2:
		return rank < rank2
	}
	return key < key2
}
