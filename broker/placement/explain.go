package placement

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Verdict says what became of a node in the choice for one session.
type Verdict struct {
	NodeView
	Candidate bool    // the policy chooses among it and others
	Score     float64 // by the policy, for candidates; lower is better
	Scored    bool    // the policy has scores
	Chosen    bool    // it would get the session, now and if nothing is left to chance
	Because   string  // why it was chosen, or why it was not
}

// Explain says, for a session with the hints, what would become of every node
// now: the ones that would be chosen sooner come first. Nothing is counted.
//
// Policies that draw nodes at random choose among the drawn; the one marked as
// chosen is the best of all.
func (t *Table) Explain(now time.Time, h Hints) []Verdict {
	at := t.at(now)
	t.refresh(at)
	if h.Pool == "" {
		h.Pool = proto.DefaultPool
	}
	c, where := t.field(at, h)
	list := make([]Verdict, 0, len(t.sorted))
	for i, view := range t.Nodes(now) {
		n := t.sorted[i]
		v := Verdict{NodeView: view}
		switch k := c.index(n); {
		case n.peer.Pool != h.Pool:
			v.Because = fmt.Sprintf("it is in pool %q, not %q", n.peer.Pool, h.Pool)
		case n.peer.ID == h.Exclude:
			v.Because = "it is the one that the client could not reach"
		case h.far(n.peer.Region) == nowhere:
			v.Because = fmt.Sprintf("it is in region %q, which may not serve", n.peer.Region)
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
	t.judge(list, at, h)
	return list
}

// field returns the candidates that the policy would be asked to choose among,
// and why nodes elsewhere are not among them.
func (t *Table) field(at time.Duration, h Hints) (*Candidates, string) {
	regions := h.Fallback
	if h.Region != "" {
		regions = append([]string{h.Region}, regions...)
	}
	for _, r := range regions {
		if c := t.candidates(t.regions[regionKey{h.Pool, r}], at, h); c != nil {
			return c, fmt.Sprintf("region %q is preferred and has room", r)
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

// judge marks the one that is chosen, and says of the others why they are not.
func (t *Table) judge(list []Verdict, at time.Duration, h Hints) {
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
			v.Because = "it is one of those that the policy draws from"
		case i == best:
			v.Chosen = true
			v.Because = "it has the best score"
			if boosted >= 0 {
				v.Because = "it is far under the mean and filled at its bounded rate"
			}
		case boosted >= 0:
			v.Because = fmt.Sprintf("%s is far under the mean and filled first", list[best].Peer.ID)
		case v.Score == list[best].Score:
			v.Because = fmt.Sprintf("%s is as good, and one of them had to be chosen", list[best].Peer.ID)
		default:
			v.Because = fmt.Sprintf("%s has a better score: %.4g, not %.4g", list[best].Peer.ID, list[best].Score, v.Score)
		}
	}
}

// lastResort marks the node that is taken when none is as it should be.
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
			v.Because = "there is no better one, though: " + v.Because
		}
	}
}
