package placement

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/proto"
)

// Rating says how a node fares in the choice for one session.
type Rating struct {
	nodes.View
	Candidate bool    // the policy picks from this node and the other candidates
	Score     float64 // of the policy, for candidates; lower is better
	Scored    bool    // the policy is a Scorer
	Chosen    bool    // it would get the session now, if the policy did not draw at random
	Because   string  // why it is chosen, or why not

	fill *fill
}

// Explain returns a rating of every node for a session with the hints, the best
// candidates first. It counts no session as sent.
//
// A policy that draws nodes at random picks among the drawn nodes only; Explain
// marks the best of all candidates as chosen.
func (p *Picker) Explain(now time.Time, h Hints) []Rating {
	p.table.SetTime(now)
	p.refresh()
	if h.Pool == "" {
		h.Pool = proto.DefaultPool
	}
	p.exclude(h)
	open, where := p.candidates(h)
	list := make([]Rating, 0, len(p.fills))
	k := 0 // open has some of the nodes, in the same order
	for _, f := range p.fills {
		for k < len(open) && open[k].ID() < f.ID() {
			k++
		}
		r := Rating{View: f.View(), fill: f}
		switch {
		case f.Pool() != h.Pool:
			r.Because = fmt.Sprintf("it is in pool %q, not %q", f.Pool(), h.Pool)
		case f.Node == p.excluded:
			r.Because = "the client could not reach it"
		case h.regionRank(f.Region()) == notAllowed:
			r.Because = fmt.Sprintf("it is in region %q, which is not one of the allowed regions", f.Region())
		case k < len(open) && open[k].fill == f && open[k].Open():
			r.Candidate = true
			if s, ok := p.selector(h.Pool).(Scorer); ok {
				r.Score, r.Scored = s.Score(open, k, h), true
			}
		case !r.Eligible():
			r.Because = r.Why()
		default:
			r.Because = where
		}
		list = append(list, r)
	}
	slices.SortStableFunc(list, func(a, b Rating) int {
		if a.Candidate != b.Candidate {
			if a.Candidate {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Score, b.Score)
	})
	p.markChosen(list, h)
	return list
}

// candidates returns the nodes that the policy would pick from, and why nodes
// elsewhere are not among them.
func (p *Picker) candidates(h Hints) (open []Node, where string) {
	regions := h.Fallback
	if h.Region != "" {
		regions = append([]string{h.Region}, regions...)
	}
	for _, r := range regions {
		if open := p.anyOpen(groupKey{h.Pool, r}); open != nil {
			return open, fmt.Sprintf("region %q is preferred and has capacity", r)
		}
	}
	if h.Strict {
		return nil, ""
	}
	return p.anyOpen(groupKey{h.Pool, ""}), ""
}

// anyOpen returns the nodes of the group, or nil if none may be picked.
func (p *Picker) anyOpen(k groupKey) []Node {
	g := p.groups[k]
	if g == nil || !slices.ContainsFunc(g.open, func(n Node) bool { return n.Open() }) {
		return nil
	}
	return g.open
}

// markChosen marks the node that is chosen, and explains why each candidate is
// chosen or not. list is sorted.
func (p *Picker) markChosen(list []Rating, h Hints) {
	if len(list) == 0 {
		return
	}
	if !list[0].Candidate {
		p.lastResort(list, h)
		return
	}
	boosted := slices.IndexFunc(list, func(r Rating) bool { return r.Candidate && p.isBoosted(r.fill, h) })
	best := max(boosted, 0)
	for i := range list {
		r := &list[i]
		switch {
		case !r.Candidate:
		case !r.Scored:
			r.Because = "the policy picks at random from it and others"
		case i == best:
			r.Chosen = true
			r.Because = "it has the best score"
			if boosted >= 0 {
				r.Because = "it is far below the mean load and is filled first, at a bounded rate"
			}
		case boosted >= 0:
			r.Because = fmt.Sprintf("%s is far below the mean load and is filled first", list[best].Peer.ID)
		case r.Score == list[best].Score:
			r.Because = fmt.Sprintf("%s has the same score and is chosen", list[best].Peer.ID)
		default:
			r.Because = fmt.Sprintf("%s has a better score: %.4g, not %.4g", list[best].Peer.ID, list[best].Score, r.Score)
		}
	}
}

// isBoosted reports whether Least would give the node a boosted pick.
func (p *Picker) isBoosted(f *fill, h Hints) bool {
	_, least := p.selector(h.Pool).(*Least)
	return least && f.underfull[groupKey{}.kind()] && f.tokens >= 1
}

// lastResort marks the node that Pick would return if no node is eligible.
func (p *Picker) lastResort(list []Rating, h Hints) {
	f, err := p.search(h)
	if err != nil {
		return
	}
	for i := range list {
		if r := &list[i]; r.fill == f {
			r.Chosen = true
			r.Because = "it is the last resort: " + r.Because
		}
	}
}
