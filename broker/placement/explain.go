package placement

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Verdict says how a node fares in the choice for one session.
type Verdict struct {
	NodeView
	Candidate bool    // the policy picks from this node and the other candidates
	Score     float64 // of the policy, for candidates; lower is better
	Scored    bool    // the policy is a Scorer
	Chosen    bool    // it would get the session now, if the policy did not draw at random
	Because   string  // why it is chosen, or why not
}

// Explain returns a verdict on every node for a session with the hints, the best
// candidates first. It counts no session as pending.
//
// A policy that draws nodes at random picks among the drawn nodes only; Explain
// marks the best of all candidates as chosen.
func (t *Table) Explain(now time.Time, h Hints) []Verdict {
	at := t.at(now)
	t.refresh(at)
	if h.Pool == "" {
		h.Pool = proto.DefaultPool
	}
	c, where := t.policyCandidates(at, h)
	list := make([]Verdict, 0, len(t.sorted))
	for i, view := range t.Nodes(now) {
		n := t.sorted[i]
		v := Verdict{NodeView: view}
		switch k := c.index(n); {
		case n.peer.Pool != h.Pool:
			v.Because = fmt.Sprintf("it is in pool %q, not %q", n.peer.Pool, h.Pool)
		case n.peer.ID == h.Exclude:
			v.Because = "the client could not reach it"
		case h.regionRank(n.peer.Region) == notAllowed:
			v.Because = fmt.Sprintf("it is in region %q, which is not one of the allowed regions", n.peer.Region)
		case k >= 0 && c.Open(k):
			v.Candidate = true
			if s, ok := t.policy(h.Pool).(Scorer); ok {
				v.Score, v.Scored = s.Score(c, k, h), true
			}
		case !view.Eligible:
			v.Because = view.Why
		default:
			v.Because = where
		}
		list = append(list, v)
	}
	slices.SortStableFunc(list, func(a, b Verdict) int {
		if a.Candidate != b.Candidate {
			if a.Candidate {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Score, b.Score)
	})
	t.markChosen(list, at, h)
	return list
}

// policyCandidates returns the candidates that the policy would pick from, and
// why nodes elsewhere are not among them.
func (t *Table) policyCandidates(at time.Duration, h Hints) (*Candidates, string) {
	regions := h.Fallback
	if h.Region != "" {
		regions = append([]string{h.Region}, regions...)
	}
	for _, r := range regions {
		if c := t.candidates(t.regions[regionKey{h.Pool, r}], at, h); c != nil {
			return c, fmt.Sprintf("region %q is preferred and has capacity", r)
		}
	}
	if !h.Strict {
		if c := t.candidates(t.pools[h.Pool], at, h); c != nil {
			return c, ""
		}
	}
	return &Candidates{t: t, g: &group{}, at: at}, ""
}

func (t *Table) candidates(g *group, at time.Duration, h Hints) *Candidates {
	if g == nil {
		return nil
	}
	c := &Candidates{t: t, g: g, at: at, exclude: h.Exclude}
	for i := range c.Len() {
		if c.Open(i) {
			return c
		}
	}
	return nil
}

func (c *Candidates) index(n *node) int {
	return slices.IndexFunc(c.g.open, func(x candidate) bool { return x.n == n })
}

// markChosen marks the node that is chosen, and explains why each candidate is
// chosen or not. list is sorted.
func (t *Table) markChosen(list []Verdict, at time.Duration, h Hints) {
	if len(list) == 0 {
		return
	}
	if !list[0].Candidate {
		t.lastResort(list, at, h)
		return
	}
	boosted := slices.IndexFunc(list, func(v Verdict) bool {
		n := t.nodes[v.Peer.ID]
		_, least := t.policy(h.Pool).(Least)
		return least && v.Candidate && n.underfull[inPool] && n.tokens >= 1
	})
	best := max(boosted, 0)
	for i := range list {
		v := &list[i]
		switch {
		case !v.Candidate:
		case !v.Scored:
			v.Because = "the policy picks at random from it and others"
		case i == best:
			v.Chosen = true
			v.Because = "it has the best score"
			if boosted >= 0 {
				v.Because = "it is far below the mean load and is filled first, at a bounded rate"
			}
		case boosted >= 0:
			v.Because = fmt.Sprintf("%s is far below the mean load and is filled first", list[best].Peer.ID)
		case v.Score == list[best].Score:
			v.Because = fmt.Sprintf("%s has the same score and is chosen", list[best].Peer.ID)
		default:
			v.Because = fmt.Sprintf("%s has a better score: %.4g, not %.4g", list[best].Peer.ID, list[best].Score, v.Score)
		}
	}
}

// lastResort marks the node that Pick would return if no node is eligible.
func (t *Table) lastResort(list []Verdict, at time.Duration, h Hints) {
	pool := t.pools[h.Pool]
	if pool == nil {
		return
	}
	n, err := t.search(pool, at, h)
	if err != nil {
		return
	}
	for i := range list {
		if v := &list[i]; v.Peer.ID == n.peer.ID {
			v.Chosen = true
			v.Because = "it is the last resort: " + v.Because
		}
	}
}
