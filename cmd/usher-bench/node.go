package main

import (
	"context"
	"errors"
	"time"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/node/serve"
)

// nodeCmd runs a node that another process measures. Its session store is in memory, so
// that the process has all memory of a session.
type nodeCmd struct {
	serve.NodeFlags  `embed:""`
	process.TLSFlags `embed:""`

	Listen string `required:""`
	Ops    string `required:""`
	JWKS   string `name:"jwks" required:""`
}

func (c *nodeCmd) Run(ctx context.Context, e *process.Env) error {
	store := benchStore{memory.New(time.Now)}
	defer store.Close()
	return serve.RunCommand(ctx, node.Echo{}, serve.Config{
		NodeFlags: c.NodeFlags, TLSFlags: c.TLSFlags, ID: benchNode, Listen: c.Listen, Ops: c.Ops, JWKS: c.JWKS, Store: store, Logger: e.Log,
		GossipFlags: process.GossipFlags{Gossip: "127.0.0.1:0", GossipLabel: "usher-bench"},
		LimitFlags:  process.LimitFlags{MaxConnections: c.MaxSessions + 1000},
	})
}

// Names that the node and the measuring process share.
const (
	benchNode = "bench"
	benchUser = "bench"
)

// benchStore creates a session when its client attaches, because there is no login.
type benchStore struct{ *memory.Store }

func (s benchStore) Attach(ctx context.Context, l session.Lease, stream string, take bool, proof uint64, ttl time.Duration) (session.Record, error) {
	r, err := s.Store.Attach(ctx, l, stream, take, proof, ttl)
	if !errors.Is(err, session.ErrNotFound) {
		return r, err
	}
	if _, _, err := s.Create(ctx, session.NewRequest(), session.Record{ID: l.ID, User: benchUser, Node: l.Node}, session.Rule{}, ttl); err != nil {
		return r, err
	}
	return s.Store.Attach(ctx, l, stream, take, proof, ttl)
}
