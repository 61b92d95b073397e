package broker

import (
	"context"
	"sync"
)

// missed holds the nodes that could not be notified of sessions that they no
// longer own. They are notified through the store, which they may be able to
// reach.
type missed struct {
	pace *pace

	mu      sync.Mutex
	nodes   map[string]bool
	running bool
}

func (m *missed) add(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes == nil {
		m.nodes = map[string]bool{}
	}
	m.nodes[node] = true
	m.pace.stir()
}

// take removes and returns the nodes. It returns nil if there are none, or while
// another round is running.
func (m *missed) take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running || len(m.nodes) == 0 {
		return nil
	}
	var list []string
	for id := range m.nodes {
		list = append(list, id)
	}
	clear(m.nodes)
	m.running = true
	return list
}

func (m *missed) done() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = false
}

// fenceMissed starts to notify the missed nodes through the store. It does not
// wait.
func (b *Broker) fenceMissed() {
	list := b.commands.missed.take()
	if list == nil {
		return
	}
	started := b.commands.spawn(func(ctx context.Context) {
		defer b.commands.missed.done()
		for _, id := range list {
			ctx, cancel := context.WithTimeout(ctx, commandTimeout)
			if err := b.store.Fence(ctx, id); err != nil {
				b.commands.missed.add(id)
			}
			cancel()
		}
	})
	if !started {
		b.commands.missed.done()
	}
}

// spawn runs f in a goroutine, unless the broker is closed. f must return when
// its context ends.
func (c *commands) spawn(f func(context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Go(func() { f(c.ctx) })
	return true
}
