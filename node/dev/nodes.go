package dev

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/node/serve"
	"github.com/usher-broker/usher/proto"
)

// devNode is a node that can end as a killed process does.
type devNode struct {
	*serve.Node
	listener *breakableListener
	store    *breakableStore
}

// AddNode starts another node and returns its id. A cluster has at most 64 nodes.
func (c *Cluster) AddNode() (id string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return "", errors.New("the cluster is closed")
	}
	if len(c.nodes) >= maxNodes {
		return "", fmt.Errorf("the cluster has %d nodes, the maximum", maxNodes)
	}
	ln, err := process.ListenFrom("127.0.0.1", &c.port)
	if err != nil {
		return "", process.FlagError{Flag: "--node-port", Err: err}
	}
	c.count++
	id = "node-" + strconv.Itoa(c.count)
	n := &devNode{listener: newBreakableListener(ln), store: &breakableStore{Store: c.store}}
	gossip := c.gossip()
	n.Node = serve.New(c.app(id), serve.Config{
		NodeFlags: c.cfg.NodeFlags,
		GossipFlags: process.GossipFlags{
			Gossip: gossip.Bind, Join: gossip.Join, GossipLabel: gossip.Label,
		},
		LimitFlags: process.LimitFlags{MaxConnections: noLimit},
		ID:         id, Listener: n.listener, Store: n.store, Keys: c.keys, KeepDrained: true,
		Logger: c.cfg.Logger, Metrics: process.Labelled(c.registry, id),
	})
	if err := n.Start(context.Background()); err != nil {
		return "", err
	}
	c.nodes[id] = n
	return id, nil
}

// noLimit is more connections than a process can open.
const noLimit = 1 << 30

// KillNode ends a node as kill -9 ends a process: its connections break, the
// other members are not informed, and its memory is lost. It reports whether there
// was such a node.
func (c *Cluster) KillNode(id string) bool {
	c.mu.Lock()
	n := c.nodes[id]
	delete(c.nodes, id)
	c.mu.Unlock()
	if n == nil {
		return false
	}
	n.store.broken.Store(true)
	n.listener.breakAll()
	n.Kill()
	return true
}

// commandTimeout bounds a command to a node.
const commandTimeout = time.Second

// DrainNode moves the sessions of a node to others. The node stays, without
// sessions, until UndrainNode.
func (c *Cluster) DrainNode(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return c.broker.Drain(ctx, id, proto.DrainRequest{WindowMS: 500, Keep: true})
}

// UndrainNode has a drained node get sessions again.
func (c *Cluster) UndrainNode(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return c.broker.Undrain(ctx, id)
}

// running returns the nodes that have not been killed, by id.
func (c *Cluster) running() []*devNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*devNode
	for _, id := range slices.Sorted(maps.Keys(c.nodes)) {
		list = append(list, c.nodes[id])
	}
	return list
}

func (c *Cluster) closeNodes() {
	var wg sync.WaitGroup
	for _, n := range c.running() {
		wg.Go(n.Close)
	}
	wg.Wait()
}
