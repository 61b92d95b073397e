package broker

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/proto"
)

// Health says how the broker watches the nodes' addresses: being a member of the
// cluster is one thing, letting clients in another. The zero value of a field
// means its default, but without an Interval nobody watches.
type Health struct {
	// Interval is the time between two probes of a node. 0: nodes are not probed,
	// and taken to be reachable.
	Interval time.Duration
	// Timeout bounds a probe. Default 1 s, or Interval if that is less.
	Timeout time.Duration
	// Out is how many probes in a row must fail for a node to get no sessions, In
	// how many must succeed for it to get some again. Defaults 3 and 2. A node
	// gets none before the first has succeeded.
	Out, In int
}

func (h Health) withDefaults() Health {
	h.Timeout = cmp.Or(h.Timeout, min(probeTimeout, h.Interval))
	h.Out, h.In = cmp.Or(h.Out, 3), cmp.Or(h.In, 2)
	return h
}

// doorState is what probes of a node's address have shown.
type doorState struct {
	url     string
	next    time.Time // when to probe again
	busy    bool
	reach   placement.Reach
	why     string // the last failure
	inRow   int    // probes that ended as the last one
	failing bool   // the last one failed
}

// probesAtOnce bounds the probes under way: a thousand nodes that do not answer
// are a thousand seconds of waiting in each interval.
const probesAtOnce = 256

// eager is how soon a node is tried again that nobody has ever reached: it may
// just be starting.
const eager = 250 * time.Millisecond

// watch begins the probes that are due. It is called every tick.
func (b *Broker) watch() {
	h := b.cfg.Health
	if h.Interval <= 0 {
		return
	}
	now := b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, n := range b.nodes {
		d := &n.door
		if d.url == "" || n.peer.State == proto.StateStarting || d.busy || now.Before(d.next) {
			continue
		}
		url := d.url
		if !b.suspects.begin(func() { b.look(id, url) }) {
			return // the rest the next time
		}
		d.busy = true
	}
}

// look probes a node once.
func (b *Broker) look(id, url string) {
	ctx, cancel := context.WithTimeout(b.suspects.ctx, b.cfg.Health.Timeout)
	defer cancel()
	err := b.cfg.Probe(ctx, id, url)
	if b.suspects.ctx.Err() != nil {
		return
	}
	b.hooks.Probed(id, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[id]
	if n == nil || n.door.url != url {
		return
	}
	d, before := &n.door, n.door.reach
	d.seen(err, b.cfg.Health)
	// A little earlier or later each time, so that the probes of many brokers do
	// not fall together.
	wait := b.cfg.Health.Interval
	if d.reach == placement.Shut && d.inRow < 8 {
		wait = min(wait, eager*time.Duration(d.inRow))
	}
	d.next = b.cfg.Now().Add(wait*9/10 + rand.N(wait/5+1))
	b.table.SetReach(id, d.reach, d.why)
	if before != d.reach {
		b.tellReach(id, d, before)
	}
}

func (b *Broker) tellReach(id string, d *doorState, before placement.Reach) {
	switch {
	case d.reach != placement.Reached:
		b.log.Warn("node gets no sessions: no client can get in", "node", id, "url", d.url, "error", d.why)
	case before != placement.Unproven:
		b.log.Info("node can be reached again", "node", id, "url", d.url)
	}
}

// seen takes in how a probe ended.
func (d *doorState) seen(err error, h Health) {
	d.busy = false
	if failed := err != nil; failed != d.failing || d.inRow == 0 {
		d.failing, d.inRow = failed, 0
	}
	d.inRow++
	if err != nil {
		d.why = err.Error()
	}
	switch d.reach {
	case placement.Unproven:
		d.reach = placement.Reached
		if err != nil {
			d.reach = placement.Shut
		}
	case placement.Reached:
		if err != nil && d.inRow >= h.Out {
			d.reach = placement.Unreachable
		}
	case placement.Unreachable, placement.Shut:
		if err == nil && d.inRow >= h.In {
			d.reach = placement.Reached
		}
	}
	if d.reach == placement.Reached && err == nil {
		d.why = ""
	}
}

// shut reports whether clients cannot get in at the node, as far as is known.
func (b *Broker) shut(n *node) bool {
	return b.cfg.Health.Interval > 0 && n.door.reach != placement.Reached
}
