package cluster

import (
	"context"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Load provides the load of the node. The reporter reads it at least once a second,
// and after each change, at most 40 times a second.
type Load interface {
	// LoadChanged returns a channel on which a value arrives after each change of what
	// Load returns. It always returns the same channel, and only the reporter receives
	// from it.
	LoadChanged() <-chan struct{}
	// Load returns the node's state, the number of sessions it holds, attached or
	// detached, and the number of attached ones.
	Load() (state proto.NodeState, live, attached uint32)
	// Arrived returns how many sessions have arrived since the node started: with
	// a token of the issuer, and with any token.
	Arrived(issuer string) (mine, all uint64)
	// Draining returns the progress of a drain, or nil if the node does not
	// drain.
	Draining() *proto.Drain
	// LoadPenalty returns the percentage, 0 to 100, by which the node should get
	// fewer sessions than its capacity allows.
	LoadPenalty() uint8
}

// RunReporter publishes a node's load until ctx ends or the cluster is left.
// Every member that places sessions gets the exact load once a second, and at
// once when it has changed by 1 % of capacity, the state has changed or the
// member is new, at most 20 times a second. All members get the state and the
// load as metadata when the state, or the load by 10 % of capacity, has changed,
// at most every 10 s. The first time the node is ready, and the start and the end
// of a drain, are published at once.
func (c *Cluster) RunReporter(ctx context.Context, l Load) {
	c.mu.Lock()
	r := reporter{c: c, load: l, p: publisher{
		capacity: c.self.Capacity, signs: c.cfg.Sign != nil, published: nodeLoad{c.self.State, c.self.Live}, metaAt: time.Now(),
	}}
	c.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	wait := func(changed <-chan struct{}, joined <-chan struct{}) bool {
		select {
		case <-timer.C:
		case <-changed:
		case <-joined:
		case <-ctx.Done():
			return false
		case <-c.ctx.Done():
			return false
		}
		return true
	}
	for {
		stepped := time.Now()
		timer.Reset(r.step(stepped))
		if !wait(l.LoadChanged(), c.observerJoined) {
			return
		}
		// Changes that follow one another quickly are published together.
		if early := stepInterval - time.Since(stepped); early > 0 {
			timer.Reset(early)
			if !wait(nil, nil) {
				return
			}
		}
	}
}

type reporter struct {
	c    *Cluster
	load Load
	p    publisher
	seq  uint64
}

// step publishes what is due, and returns how long to wait for the next step if
// nothing changes.
func (r *reporter) step(now time.Time) time.Duration {
	state, live, attached := r.load.Load()
	observers := r.c.observers.Load()
	report, meta := r.p.due(now, nodeLoad{state, live}, observers)
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
	return r.p.next(nodeLoad{state, live}, observers).Sub(now)
}

func (r *reporter) report(state proto.NodeState, live, attached uint32) {
	r.seq++
	drain, penalty := r.load.Draining(), r.load.LoadPenalty()
	for _, m := range r.c.Members() {
		if !m.Role.Places() || m.ID == r.c.cfg.Self.ID {
			continue
		}
		mine, all := r.load.Arrived(m.ID)
		// A lost report is followed by the next one; failed sends are counted.
		_ = r.c.SendReport(m.ID, proto.Report{
			ID: r.c.cfg.Self.ID, Generation: r.c.cfg.Self.Generation, Seq: r.seq, State: state,
			Capacity: r.p.capacity, Live: live, Attached: attached, Arrived: mine, ArrivedAll: all,
			Drain: drain, LoadPenalty: penalty,
		})
	}
}
