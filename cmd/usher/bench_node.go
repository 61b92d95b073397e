package main

import (
	"context"
	"errors"
	"time"

	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/broker/token"
)

// benchNodeCmd runs one node and nothing beside it, for another process to
// measure. Its store is in its memory, so that all a session costs is there.
type benchNodeCmd struct {
	nodeFlags `embed:""`
	tlsFlags  `embed:""`

	Listen string `required:""`
	Ops    string `required:""`
	JWKS   string `name:"jwks" required:""`
}

func (c *benchNodeCmd) Run(ctx context.Context, e *env) error {
	tuneCollector(ctx)
	var stop closers
	defer func() { stop.close() }()
	keys, err := token.OpenJWKS(ctx, c.JWKS, e.log)
	if err != nil {
		return err
	}
	stop.add(func() { keys.Close() })
	reg := newRegistry()
	store := benchStore{memory.New(time.Now)}
	stop.add(func() { store.Close() })
	n, err := startNode(ctx, nodeOptions{
		nodeFlags: c.nodeFlags, id: benchNode, listen: c.Listen, tls: c.tlsFlags, store: store, keys: keys, registry: reg, log: e.log,
		gossip: cluster.Config{Bind: "127.0.0.1:0", Label: "usher-bench"},
	})
	if err != nil {
		return err
	}
	stop.add(n.close)
	ops, err := serveOps(c.Ops, reg, n.checks(), e.log)
	if err != nil {
		return err
	}
	stop.add(func() { ops.close(context.Background()) })
	waitDone(ctx)
	return nil
}

// Names that both sides know.
const (
	benchNode = "bench"
	benchUser = "bench"
)

// benchStore opens a session when its client attaches: there is no login here.
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
