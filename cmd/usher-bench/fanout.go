package main

import (
	"context"
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/cmd/usher-bench/load"
)

type fanoutCmd struct {
	loadFlags   `embed:""`
	attachFlags `embed:""`
	sizeFlag    `embed:""`

	Rate     float64       `help:"Messages per second that one session of each node sends." default:"10" placeholder:"N"`
	Duration time.Duration `help:"For how long." default:"10s" placeholder:"TIME"`
}

func (c *fanoutCmd) Run(ctx context.Context, e *process.Env) error {
	if err := checkSending(c.attachFlags, c.sizeFlag, c.Rate, c.Duration); err != nil {
		return err
	}
	return c.run(ctx, e, "fanout", c.Sessions, c.work)
}

// nodeClients are the clients of one node.
type nodeClients struct {
	clients  []*loadClient // the first one sends
	sent     int64
	received atomic.Int64
}

func (c *fanoutCmd) work(ctx context.Context, l *loader) error {
	deliveries := l.tally("delivery")
	l.echoes = load.NewTally() // for messages before the start; not printed
	all, err := l.attach(ctx, c.attachFlags)
	if err != nil {
		return err
	}
	byID := map[string]*nodeClients{}
	var nodes []*nodeClients
	for _, m := range all {
		at := m.Assignment().Node.ID
		n := byID[at]
		if n == nil {
			n = &nodeClients{}
			byID[at] = n
			nodes = append(nodes, n)
		}
		n.clients = append(n.clients, m)
	}
	for _, n := range nodes {
		n.awaitAll(ctx, payload(c.Size), time.Now().Add(l.Timeout))
		for _, m := range n.clients {
			m.count(n, deliveries, uint64(l.index))
		}
	}
	if err := l.barrier(ctx, "attached"); err != nil {
		return err
	}
	start := time.Now()
	each := int(math.Ceil(c.Rate * c.Duration.Seconds()))
	b := payload(c.Size)
	l.late(load.Plan{N: each * len(nodes), Rate: c.Rate * float64(len(nodes)), Ramp: l.Ramp}.Run(ctx, func(i int, planned time.Time) {
		n := nodes[i%len(nodes)]
		load.Stamp(b, planned)
		binary.LittleEndian.PutUint64(b[8:], uint64(l.index))
		if err := n.clients[0].Send(b); err != nil {
			deliveries.Failed(load.Reason(err))
			return
		}
		n.sent++
	}))
	l.took("delivery", time.Since(start))
	l.awaitDeliveries(ctx, nodes)
	if err := l.barrier(ctx, "received"); err != nil {
		return err
	}
	l.leave(all)
	return ctx.Err()
}

// awaitAll sends messages from the first client until all clients have received one. A
// session that has its welcome may be unknown to the application yet, and would miss a
// message to all.
func (n *nodeClients) awaitAll(ctx context.Context, b []byte, deadline time.Time) {
	binary.LittleEndian.PutUint64(b[8:], math.MaxUint64) // no process counts it
	var waiting atomic.Int64
	waiting.Store(int64(len(n.clients)))
	for _, m := range n.clients {
		var once sync.Once
		m.setOnMessage(func([]byte) { once.Do(func() { waiting.Add(-1) }) })
	}
	for waiting.Load() > 0 && time.Now().Before(deadline) && ctx.Err() == nil {
		_ = n.clients[0].Send(b) // a failure shows in the measurement
		await(ctx, time.Now().Add(200*time.Millisecond), func() bool { return waiting.Load() == 0 })
	}
}

// count counts the messages to the client that this process has sent.
func (m *loadClient) count(n *nodeClients, t *load.Tally, index uint64) {
	m.setOnMessage(func(b []byte) {
		if len(b) < load.MinMessage || binary.LittleEndian.Uint64(b[8:]) != index {
			return // another process counts its own
		}
		n.received.Add(1)
		t.Lasted(load.Age(b))
	})
}

// awaitDeliveries waits for messages in flight and records how many were lost.
func (l *loader) awaitDeliveries(ctx context.Context, nodes []*nodeClients) {
	deadline := time.Now().Add(l.Timeout)
	var missing int64
	for _, n := range nodes {
		expected := n.sent * int64(len(n.clients))
		await(ctx, deadline, func() bool { return n.received.Load() >= expected })
		missing += expected - n.received.Load()
	}
	l.fact("lost", float64(max(missing, 0)))
}
