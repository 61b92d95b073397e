package broker

import (
	"context"
	"sync"
	"time"
)

const (
	// probeTimeout bounds a probe.
	probeTimeout = time.Second
	// probeSpacing is the least time between two probes of one node for client
	// reports, so that many reports cost little.
	probeSpacing = time.Second
	// suspension is how long a node that failed a probe gets no sessions, unless
	// it reports before. By then its last report is too old, or gossip has
	// removed it.
	suspension = 5 * time.Second
)

// probes runs the probes of nodes that clients could not reach, and the
// periodic ones. A client report alone keeps no sessions from a node: the broker
// probes it first.
type probes struct {
	ctx    context.Context
	cancel context.CancelFunc

	slots chan struct{} // limits the periodic probes

	mu     sync.Mutex
	closed bool
	last   map[string]nodeProbe // by node
	wg     sync.WaitGroup
}

// nodeProbe is the latest probe of a node.
type nodeProbe struct {
	at     time.Time
	before reportID      // the node's last report before the probe
	failed chan struct{} // closed when the probe found the node gone
}

// reportID identifies a report of a node.
type reportID struct{ generation, seq uint64 }

func newProbes() *probes {
	p := &probes{last: map[string]nodeProbe{}, slots: make(chan struct{}, probesAtOnce)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// checkNode starts a probe of the node, unless one started less than probeSpacing
// ago, and does not wait for it. The returned channel is closed when the probe
// finds the node gone; it may be nil.
func (b *Broker) checkNode(to target) <-chan struct{} {
	if b.cfg.Probe == nil {
		return nil
	}
	all := b.probes
	now, last := time.Now(), b.lastReport(to.id)
	all.mu.Lock()
	defer all.mu.Unlock()
	switch p := all.last[to.id]; {
	case all.closed:
		return p.failed
	case now.Sub(p.at) >= probeSpacing:
	case p.before != last:
		return nil // it has reported or restarted since: it is alive
	default:
		return p.failed
	}
	for id, p := range all.last { // few: only recent probes
		if now.Sub(p.at) >= probeSpacing {
			delete(all.last, id)
		}
	}
	p := nodeProbe{now, last, make(chan struct{})}
	all.last[to.id] = p
	all.wg.Go(func() { b.probe(to, p.failed) })
	return p.failed
}

func (b *Broker) probe(to target, failed chan<- struct{}) {
	last := b.lastReport(to.id)
	ctx, cancel := context.WithTimeout(b.probes.ctx, probeTimeout)
	defer cancel()
	err := b.cfg.Probe(ctx, to.id, to.url)
	if b.probes.ctx.Err() != nil {
		return
	}
	b.hooks.Probed(to.id, err)
	if err == nil || !b.suspend(to.id, last) {
		return
	}
	close(failed)
	b.log.Warn("node gets no sessions for now: neither a client nor this process can reach it", "node", to.id, "url", to.url, "error", err)
}

// lastReport returns the identity of the node's last report.
func (b *Broker) lastReport(id string) reportID {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.nodes[id]; n != nil {
		return n.lastReport()
	}
	return reportID{}
}

func (n *node) lastReport() reportID { return reportID{n.peer.Generation, n.seq} }

// suspend suspends the node, unless it has left, or has reported since last: then
// it is alive, and its address may be one that only clients can reach.
func (b *Broker) suspend(id string, last reportID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[id]
	if n == nil || n.lastReport() != last {
		return false
	}
	now := b.cfg.Now()
	n.suspended = now.Add(suspension)
	b.table.Suspend(id, n.suspended)
	return true
}

// clear ends a suspension. The caller holds b.mu.
func (b *Broker) clear(n *node, now time.Time) {
	if n.suspended.After(now) {
		n.suspended = now
		b.table.Suspend(n.peer.ID, now)
	}
}

// tryGo runs f in a goroutine, unless too many run or the broker is closed.
func (p *probes) tryGo(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	select {
	case p.slots <- struct{}{}:
	default:
		return false
	}
	p.wg.Go(func() {
		defer func() { <-p.slots }()
		f()
	})
	return true
}

func (p *probes) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.wg.Wait()
}
