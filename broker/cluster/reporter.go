package cluster

import (
	"context"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Load is asked by the reporter, 40 times a second, how full the node is.
type Load interface {
	// Load returns the node's state, the sessions it holds, attached or not,
	// and those attached.
	Load() (state proto.NodeState, live, attached uint32)
	// Arrived returns how many sessions arrived with a token of the issuer, and
	// with anybody's, since the node started.
	Arrived(issuer string) (mine, all uint64)
	// Draining returns how far the node has come that gives its sessions away, or
	// nil.
	Draining() *proto.Drain
	// LoadPenalty returns the percentage by which the node wants fewer sessions than
	// its capacity would have it.
	LoadPenalty() uint8
}

// RunReporter publishes a node's load until ctx ends or the cluster is left.
// Every member that places gets the exact load once a second, and at once when
// it has moved by 1 % of capacity, the state has changed or the member is new,
// at most 20 times a second. Everybody gets the state, and the load when it has
// moved by 10 % of capacity, as metadata, at most every 10 s; but that the node
// is ready for the first time, or draining, or no longer, at once.
func (c *Cluster) RunReporter(ctx context.Context, l Load) {
	c.mu.Lock()
	r := reporter{c: c, load: l, p: publisher{
		capacity: c.self.Capacity, signs: c.cfg.Sign != nil, published: standing{c.self.State, c.self.Live}, metaAt: time.Now(),
	}}
	c.mu.Unlock()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		r.step(time.Now())
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		case <-c.ctx.Done():
			return
		}
	}
}

type reporter struct {
	c    *Cluster
	load Load
	p    publisher
	seq  uint64
}

func (r *reporter) step(now time.Time) {
	state, live, attached := r.load.Load()
	report, meta := r.p.due(now, standing{state, live}, r.c.observers.Load())
	if meta {
		r.c.mu.Lock()
		self := r.c.self
		r.c.mu.Unlock()
		self.State, self.Live = state, live
		if err := r.c.SetSelf(self); err != nil {
			r.c.log.Warn("metadata not published", "error", err)
		}
	}
	if report {
		r.report(state, live, attached)
	}
}

func (r *reporter) report(state proto.NodeState, live, attached uint32) {
	r.seq++
	drain, strain := r.load.Draining(), r.load.LoadPenalty()
	for _, m := range r.c.Members() {
		if !m.Role.Places() || m.ID == r.c.cfg.Self.ID {
			continue
		}
		mine, all := r.load.Arrived(m.ID)
		// One that is lost is followed by the next; those that fail are counted.
		_ = r.c.SendReport(m.ID, proto.Report{
			ID: r.c.cfg.Self.ID, Generation: r.c.cfg.Self.Generation, Seq: r.seq, State: state,
			Capacity: r.p.capacity, Live: live, Attached: attached, Arrived: mine, ArrivedAll: all,
			Drain: drain, LoadPenalty: strain,
		})
	}
}
