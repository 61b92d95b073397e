package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker/session/redis"
)

// openStore opens the store at the address and counts what it does.
func openStore(address string, reg prometheus.Registerer) (*redis.Store, error) {
	calls := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "usher_store_seconds", Help: "Time of one call of the session store, by operation and result.",
		Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .05, .25, 1},
	}, []string{"op", "result"})
	reg.MustRegister(calls)
	store, err := redis.Open(address, redis.Options{
		Observe: func(op string, d time.Duration, err error) {
			calls.WithLabelValues(op, storeResult(err)).Observe(d.Seconds())
		},
	})
	if err != nil {
		return nil, usageError{"--redis", err}
	}
	return store, nil
}
