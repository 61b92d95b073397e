package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/proto"
)

// gossipCmd runs clusters in this process, which gossip over loopback, and counts the
// bytes that their members send.
type gossipCmd struct {
	process.OutputFlag `embed:""`

	Members  []int         `help:"Sizes of the clusters, nodes and auths together." default:"10,50,100,500" placeholder:"N"`
	Auths    int           `help:"How many of the members are auths. Each node sends its exact load to each of them." default:"3" placeholder:"N"`
	Change   float64       `help:"Part of its capacity by which each node's load changes per second, up or down." default:"0.005" placeholder:"N"`
	Duration time.Duration `help:"How long each cluster is measured, after its members have found each other." default:"30s" placeholder:"TIME"`
}

// gossipResult is the JSON output: how many bytes per second a member sends, on average.
type gossipResult struct {
	Members  int     `json:"members"`
	Auths    int     `json:"auths"`
	Packets  float64 `json:"packet_bytes_per_second"`
	Streams  float64 `json:"stream_bytes_per_second"`
	Converge float64 `json:"converged_seconds"` // until each knew all others
}

func (c *gossipCmd) Run(ctx context.Context, e *process.Env) error {
	switch {
	case c.Duration < time.Second:
		return process.FlagError{Flag: "--duration", Err: fmt.Errorf("%v: must be 1s or more", c.Duration)}
	case !(c.Change >= 0 && c.Change <= 1):
		return process.FlagError{Flag: "--change", Err: fmt.Errorf("%v: must be 0 to 1", c.Change)}
	}
	for _, n := range c.Members {
		if c.Auths < 1 || n <= c.Auths || n > 1000 {
			return process.FlagError{Flag: "--members", Err: fmt.Errorf("%d, with %d auths: must be more than the auths, and at most 1000", n, c.Auths)}
		}
	}
	for _, n := range c.Members {
		r, err := c.measure(ctx, n)
		if err != nil {
			return err
		}
		if c.JSON() {
			err = process.WriteJSON(e.Out, r)
		} else {
			_, err = fmt.Fprintf(e.Out, "%4d members: each sends %.1f KB/s: %.1f in packets, %.1f in streams; each knew all others after %.1f s\n",
				n, (r.Packets+r.Streams)/1000, r.Packets/1000, r.Streams/1000, r.Converge)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *gossipCmd) measure(ctx context.Context, n int) (r gossipResult, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var list []*cluster.Cluster
	var reporters sync.WaitGroup
	defer func() {
		cancel()
		reporters.Wait()
		closeAll(list)
	}()
	began := time.Now()
	for i := range n {
		m, err := c.join(ctx, i, list)
		if err != nil {
			return r, err
		}
		list = append(list, m)
		if i >= c.Auths {
			load := &drifting{change: c.Change, began: time.Now(), changed: make(chan struct{})}
			reporters.Go(func() { load.run(ctx) })
			reporters.Go(func() { m.RunReporter(ctx, load) })
		}
	}
	for {
		time.Sleep(100 * time.Millisecond)
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		if allKnow(list) {
			break
		}
		if time.Since(began) > 2*time.Minute {
			return r, fmt.Errorf("%d members did not find each other within 2 minutes", n)
		}
	}
	r = gossipResult{Members: n, Auths: c.Auths, Converge: time.Since(began).Seconds()}
	packets, streams := traffic(list)
	start := time.Now()
	if err := pause(ctx, c.Duration); err != nil {
		return r, err
	}
	morePackets, moreStreams := traffic(list)
	per := time.Since(start).Seconds() * float64(n)
	r.Packets, r.Streams = float64(morePackets-packets)/per, float64(moreStreams-streams)/per
	return r, nil
}

const gossipCapacity = 10_000

// join starts the i-th member.
func (c *gossipCmd) join(ctx context.Context, i int, others []*cluster.Cluster) (*cluster.Cluster, error) {
	self := proto.Peer{ID: fmt.Sprint("auth-", i), Role: proto.RoleAuth}
	if i >= c.Auths {
		self = proto.Peer{
			ID: fmt.Sprint("node-", i), Role: proto.RoleNode, URL: fmt.Sprintf("wss://node-%d.rt.example.com/v1/connect", i),
			State: proto.StateReady, Capacity: gossipCapacity, Pool: "default", Region: "eu-central",
		}
	}
	cfg := cluster.Config{Self: self, Bind: "127.0.0.1:0", Label: "usher-bench", Logger: slog.New(slog.DiscardHandler)}
	if len(others) > 0 {
		cfg.Join = []string{others[0].Addr(), others[rand.IntN(len(others))].Addr()}
	}
	return cluster.Join(ctx, cfg)
}

func allKnow(list []*cluster.Cluster) bool {
	for _, m := range list {
		if len(m.Members()) < len(list)-1 {
			return false
		}
	}
	return true
}

func traffic(list []*cluster.Cluster) (packets, streams uint64) {
	for _, m := range list {
		p, s := m.Traffic()
		packets += p
		streams += s
	}
	return packets, streams
}

func closeAll(list []*cluster.Cluster) {
	var g errgroup.Group
	g.SetLimit(64)
	for _, m := range list {
		g.Go(m.Close)
	}
	_ = g.Wait()
}

// drifting is the load of a node. It rises and falls evenly between empty and full.
type drifting struct {
	change  float64
	began   time.Time
	changed chan struct{}
}

// driftInterval is the time between two changes of the load.
const driftInterval = 25 * time.Millisecond

// run announces the changes until ctx ends.
func (d *drifting) run(ctx context.Context) {
	process.Every(ctx, driftInterval, func() {
		select {
		case d.changed <- struct{}{}:
		case <-ctx.Done():
		}
	})
}

func (d *drifting) LoadChanged() <-chan struct{} { return d.changed }

func (d *drifting) Load() (state proto.NodeState, live, attached uint32) {
	full := time.Since(d.began).Seconds() * d.change
	if full = full - 2*float64(int(full/2)); full > 1 { // it falls
		full = 2 - full
	}
	n := uint32(full * gossipCapacity)
	return proto.StateReady, n, n
}

func (d *drifting) Arrived(string) (mine, all uint64) { return 0, 0 }
func (d *drifting) Draining() *proto.Drain            { return nil }
func (d *drifting) LoadPenalty() uint8                { return 0 }
