package broker

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/proto"
)

// Health configures how the broker probes the nodes' addresses: a node can be a
// member of the cluster while clients cannot connect to it. The zero value of a
// field means its default; without an Interval there are no probes.
type Health struct {
	// Interval is the time between two probes of a node. 0: nodes are not probed
	// and count as reachable.
	Interval time.Duration
	// Timeout bounds a probe. Default 1 s, or Interval if that is less.
	Timeout time.Duration
	// Out is the number of consecutive failed probes after which a node gets no
	// sessions. In is the number of consecutive successful probes after which it
	// gets sessions again. Defaults 3 and 2. A node gets no sessions before its
	// first successful probe.
	Out, In int
}

func (h Health) withDefaults() Health {
	h.Timeout = cmp.Or(h.Timeout, min(probeTimeout, h.Interval))
	h.Out, h.In = cmp.Or(h.Out, 3), cmp.Or(h.In, 2)
	return h
}

// reachability is the result of the periodic probes of a node's address.
type reachability struct {
	url     string
	next    time.Time // time of the next probe
	busy    bool      // a probe is under way
	reach   placement.Reach
	why     string // error of the last failed probe
	inRow   int    // number of consecutive probes with the last result
	failing bool   // the last probe failed
}

// probesAtOnce bounds the concurrent probes. A thousand nodes that do not answer
// add up to a thousand seconds of waiting in each interval.
const probesAtOnce = 256

// eagerRetry is how soon a node that was never reached is probed again: it may
// still be starting.
const eagerRetry = 250 * time.Millisecond

// probeDue starts the probes that are due. It is called every tick.
func (b *Broker) probeDue() {
	h := b.cfg.Health
	if h.Interval <= 0 {
		return
	}
	now := b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, n := range b.nodes {
		d := &n.reach
		if d.url == "" || n.peer.State == proto.StateStarting || d.busy || now.Before(d.next) {
			continue
		}
		url := d.url
		if !b.probes.tryGo(func() { b.probeAddress(id, url) }) {
			return // the next tick starts the others
		}
		d.busy = true
	}
}

// probeAddress probes a node once and records the result.
func (b *Broker) probeAddress(id, url string) {
	ctx, cancel := context.WithTimeout(b.probes.ctx, b.cfg.Health.Timeout)
	defer cancel()
	err := b.cfg.Probe(ctx, id, url)
	if b.probes.ctx.Err() != nil {
		return
	}
	b.hooks.Probed(id, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[id]
	if n == nil || n.reach.url != url {
		return
	}
	d, before := &n.reach, n.reach.reach
	d.record(err, b.cfg.Health)
	// Jitter keeps the probes of many brokers from coinciding.
	wait := b.cfg.Health.Interval
	if d.reach == placement.NeverReached && d.inRow < 8 {
		wait = min(wait, eagerRetry*time.Duration(d.inRow))
	}
	d.next = b.cfg.Now().Add(wait*9/10 + rand.N(wait/5+1))
	b.table.SetReach(id, d.reach, d.why)
	if before != d.reach {
		b.logReach(id, d, before)
	}
}

func (b *Broker) logReach(id string, d *reachability, before placement.Reach) {
	switch {
	case d.reach != placement.Reached:
		b.log.Warn("node gets no sessions: clients cannot connect to it", "node", id, "url", d.url, "error", d.why)
	case before != placement.Untried:
		b.log.Info("node is reachable again and gets sessions", "node", id, "url", d.url)
	}
}

// record updates the reachability with the result of a probe.
func (d *reachability) record(err error, h Health) {
	d.busy = false
	if failed := err != nil; failed != d.failing || d.inRow == 0 {
		d.failing, d.inRow = failed, 0
	}
	d.inRow++
	if err != nil {
		d.why = err.Error()
	}
	switch d.reach {
	case placement.Untried:
		d.reach = placement.Reached
		if err != nil {
			d.reach = placement.NeverReached
		}
	case placement.Reached:
		if err != nil && d.inRow >= h.Out {
			d.reach = placement.Unreachable
		}
	case placement.Unreachable, placement.NeverReached:
		if err == nil && d.inRow >= h.In {
			d.reach = placement.Reached
		}
	}
	if d.reach == placement.Reached && err == nil {
		d.why = ""
	}
}

// unreachable reports whether clients cannot connect to the node, as far as this
// broker knows.
func (b *Broker) unreachable(n *node) bool {
	return b.cfg.Health.Interval > 0 && n.reach.reach != placement.Reached
}
