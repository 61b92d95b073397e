package broker

import (
	"cmp"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/nodes"
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
	return h
}

func (h Health) probes() nodes.Probes {
	return nodes.Probes{Interval: h.Interval, Out: h.Out, In: h.In}
}

const (
	// probeTimeout bounds a probe.
	probeTimeout = time.Second
	// probesAtOnce bounds the concurrent probes. A thousand nodes that do not answer
	// add up to a thousand seconds of waiting in each interval.
	probesAtOnce = 256
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

// nodeProbe is the latest probe of a node for a client report.
type nodeProbe struct {
	at     time.Time
	before nodes.ReportID // the node's last report before the probe
	failed chan struct{}  // closed when the probe found the node gone
}

func newProbes() *probes {
	p := &probes{last: map[string]nodeProbe{}, slots: make(chan struct{}, probesAtOnce)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// probeDue starts the periodic probes that are due, and returns the time until the next
// one is due, at most restTick.
func (b *Broker) probeDue() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.nodes.StartProbes(b.cfg.Now(), restTick, func(id, url string) bool {
		return b.probes.tryGo(func() { b.probeAddress(id, url) }) // if too many run, the next tick starts the others
	})
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
	before, after := b.nodes.Probed(b.cfg.Now(), id, url, err, rand.Float64())
	if err != nil || before != after {
		b.pace.stir()
	}
	switch {
	case before == after:
	case after != nodes.Reached:
		b.log.Warn("node gets no sessions: clients cannot connect to it", "node", id, "url", url, "error", err)
	case before != nodes.Untried:
		b.log.Info("node is reachable again and gets sessions", "node", id, "url", url)
	}
}

// clientReport records that a user could not reach a node, and starts a probe of it,
// unless one started less than probeSpacing ago. It does not wait for the probe. The
// returned channel is closed when the probe finds the node gone; it may be nil.
func (b *Broker) clientReport(to target, user string) <-chan struct{} {
	b.mu.Lock()
	b.nodes.ClientReport(b.cfg.Now(), to.id, user)
	b.pace.stir()
	b.mu.Unlock()
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
	all.wg.Go(func() { b.probeReported(to, p.failed) })
	return p.failed
}

// probeReported probes a node that a client could not reach, and suspends it if this
// broker cannot reach it either.
func (b *Broker) probeReported(to target, failed chan<- struct{}) {
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
func (b *Broker) lastReport(id string) nodes.ReportID {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.node(id); n != nil {
		return n.LastReport()
	}
	return nodes.ReportID{}
}

func (b *Broker) suspend(id string, last nodes.ReportID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.nodes.Suspend(id, last, b.cfg.Now().Add(suspension))
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
