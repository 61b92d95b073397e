package broker

import (
	"context"
	"sync"
)

// missed are the nodes that could not be told of sessions that are theirs no
// more. They are told by way of the store, which they may reach.
type missed struct {
	mu      sync.Mutex
	nodes   map[string]bool
	telling bool
}

func (m *missed) add(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes == nil {
		m.nodes = map[string]bool{}
	}
	m.nodes[node] = true
}

// take returns the nodes, unless others are just being told.
func (m *missed) take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.telling || len(m.nodes) == 0 {
		return nil
	}
	var list []string
	for id := range m.nodes {
		list = append(list, id)
	}
	clear(m.nodes)
	m.telling = true
	return list
}

func (m *missed) done() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.telling = false
}

// fence tells the nodes that were missed, and does not wait for that.
func (b *Broker) fence() {
	list := b.orders.missed.take()
	if list == nil {
		return
	}
	started := b.orders.spawn(func(ctx context.Context) {
		defer b.orders.missed.done()
		for _, id := range list {
			ctx, cancel := context.WithTimeout(ctx, orderTimeout)
			if err := b.store.Fence(ctx, id); err != nil {
				b.orders.missed.add(id)
			}
			cancel()
		}
	})
	if !started {
		b.orders.missed.done()
	}
}

// spawn runs f, which ends with its context, unless the broker is closed.
func (o *orders) spawn(f func(context.Context)) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	o.wg.Go(func() { f(o.ctx) })
	return true
}
