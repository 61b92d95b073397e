package broker

import "github.com/usher-broker/usher/broker/nodes"

// node returns what is known of a node, or nil if it is not a member. The caller
// holds b.mu.
func (b *Broker) node(id string) *nodes.Node {
	b.nodes.SetTime(b.cfg.Now())
	return b.nodes.Find(id)
}

func targetOf(n *nodes.Node) target { return target{id: n.ID(), url: n.URL()} }

// find returns the node with the id, if it is a member.
func (b *Broker) find(id string) (target, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.node(id)
	if n == nil {
		return target{}, false
	}
	return targetOf(n), true
}

// alive reports whether a node is a member and, as far as is known, alive.
func (b *Broker) alive(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.node(id)
	return n != nil && n.Alive()
}

// accepting returns a node if sessions may be assigned to it.
func (b *Broker) accepting(id string) (target, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.node(id)
	if n == nil || !n.Accepts() {
		return target{}, false
	}
	return targetOf(n), true
}

// Nodes returns what is known of every node, by id. It takes time proportional to
// the number of nodes and blocks the broker's decisions meanwhile: call it for a
// person or a scrape, not for every login.
func (b *Broker) Nodes() []nodes.View {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.nodes.Views(b.cfg.Now())
}

// Node returns what is known of one node. Its verdict says why the node gets no
// sessions.
func (b *Broker) Node(id string) (nodes.View, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.node(id)
	if n == nil {
		return nodes.View{}, false
	}
	return n.View(), true
}
