package main

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/broker/session/redis"
)

// member has what auth and broker have in common.
type member struct {
	gossip   cluster.Config
	store    *redis.Store
	registry *prometheus.Registry
}

// openMember opens the store; stop closes it.
func openMember(g process.GossipFlags, s process.StoreFlags, stop *process.Closers) (*member, error) {
	if _, err := s.Address(); err != nil { // the most likely mistake is reported first
		return nil, err
	}
	gossip, err := g.Config()
	if err != nil {
		return nil, err
	}
	m := &member{gossip: gossip, registry: process.NewRegistry()}
	if m.store, err = s.OpenStore(m.registry); err != nil {
		return nil, err
	}
	stop.Add(func() { m.store.Close() })
	return m, nil
}

// serveOps serves the ops port until stop.
func (m *member) serveOps(addr string, ready []process.Check, stop *process.Closers, log *slog.Logger) (*process.Server, error) {
	ln, err := process.Listen(addr)
	if err != nil {
		return nil, process.FlagError{Flag: "--ops", Err: err}
	}
	ops := process.ServeOps(ln, m.registry, ready, log)
	stop.Add(func() { ops.Close(process.CloseTimeout) })
	return ops, nil
}
