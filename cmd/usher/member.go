package main

import (
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
	m := &member{registry: process.NewRegistry()}
	var err error
	if m.store, err = s.OpenStore(m.registry); err != nil { // the most likely mistake is reported first
		return nil, err
	}
	stop.Add(func() { m.store.Close() })
	if m.gossip, err = g.Config(); err != nil {
		return nil, err
	}
	return m, nil
}
