package broker

import (
	"context"
	"sync"
	"time"
)

const (
	// probeTimeout is how long a node may take to answer a probe.
	probeTimeout = time.Second
	// probeSpace is the time between two probes of one node: clients that say
	// much cost little.
	probeSpace = time.Second
	// suspension is how long a node that failed a probe is kept from sessions,
	// unless it reports before. By then it is silent, or gossip has buried it.
	suspension = 5 * time.Second
)

// suspects are the nodes that a client could not reach. A client's word alone
// keeps nobody away from a node: the broker looks for itself.
type suspects struct {
	ctx    context.Context
	cancel context.CancelFunc

	slots chan struct{} // of probes that are made without being asked for

	mu     sync.Mutex
	closed bool
	last   map[string]probing // by node
	wg     sync.WaitGroup
}

// probing is the latest probe of a node.
type probing struct {
	at     time.Time
	word   word          // the node's last before it
	failed chan struct{} // closed when it found the node gone
}

// word says which of a node's reports was the last, and of which of its starts.
type word struct{ generation, seq uint64 }

func newSuspects() *suspects {
	s := &suspects{last: map[string]probing{}, slots: make(chan struct{}, probesAtOnce)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// suspect has the node probed, unless it was a moment ago, and does not wait
// for that. The channel is closed when the node is found to be gone.
func (b *Broker) suspect(to target) <-chan struct{} {
	if b.cfg.Probe == nil {
		return nil
	}
	s := b.suspects
	now, last := time.Now(), b.heardOf(to.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch p := s.last[to.id]; {
	case s.closed:
		return p.failed
	case now.Sub(p.at) >= probeSpace:
	case p.word != last:
		return nil // it has been heard of since, or is another start of it: it lives
	default:
		return p.failed
	}
	for id, p := range s.last { // few, and only of nodes lately suspected
		if now.Sub(p.at) >= probeSpace {
			delete(s.last, id)
		}
	}
	p := probing{now, last, make(chan struct{})}
	s.last[to.id] = p
	s.wg.Go(func() { b.probe(to, p.failed) })
	return p.failed
}

func (b *Broker) probe(to target, failed chan<- struct{}) {
	last := b.heardOf(to.id)
	ctx, cancel := context.WithTimeout(b.suspects.ctx, probeTimeout)
	defer cancel()
	err := b.cfg.Probe(ctx, to.id, to.url)
	if b.suspects.ctx.Err() != nil {
		return
	}
	b.hooks.Probed(to.id, err)
	if err == nil || !b.suspend(to.id, last) {
		return
	}
	close(failed)
	b.log.Warn("node gets no sessions for now: a client could not reach it, nor can this process", "node", to.id, "url", to.url, "error", err)
}

// heardOf returns the node's last word.
func (b *Broker) heardOf(id string) word {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.nodes[id]; n != nil {
		return n.word()
	}
	return word{}
}

func (n *node) word() word { return word{n.peer.Generation, n.seq} }

// suspend keeps sessions from the node, unless it has left, or has reported
// since its last word: then it lives, and its address may be one that only
// clients can reach.
func (b *Broker) suspend(id string, last word) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[id]
	if n == nil || n.word() != last {
		return false
	}
	now := b.cfg.Now()
	n.suspended = now.Add(suspension)
	b.table.Suspend(id, n.suspended)
	return true
}

// clear ends a suspension. b.mu is held.
func (b *Broker) clear(n *node, now time.Time) {
	if n.suspended.After(now) {
		n.suspended = now
		b.table.Suspend(n.peer.ID, now)
	}
}

// begin runs f beside, unless too many are under way or all is to end.
func (s *suspects) begin(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return false
	}
	s.wg.Go(func() {
		defer func() { <-s.slots }()
		f()
	})
	return true
}

func (s *suspects) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
}
