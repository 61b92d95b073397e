package process

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/redis"
)

// StoreFlags say where sessions are stored.
type StoreFlags struct {
	Redis     string `help:"Redis that stores the sessions: redis://, rediss://, or the address of a Sentinel or Cluster (see docs/configuration.md). Required: without Redis only a development cluster (usher dev) runs. Set an address with a password by the environment or a file." placeholder:"URL"`
	RedisFile string `help:"File with the address, in place of --redis." type:"path" placeholder:"FILE"`
}

// ErrNoRedis says that no address of Redis was given.
var ErrNoRedis error = FlagError{"--redis", errors.New("is required (or USHER_REDIS): the processes of a cluster share sessions through Redis. " +
	"For one process with everything in memory, run \"usher dev\"")}

// maxAddressBytes bounds the file of the address.
const maxAddressBytes = 16 << 10

// Address returns the address of Redis.
func (f StoreFlags) Address() (string, error) {
	switch {
	case f.Redis != "" && f.RedisFile != "":
		return "", FlagError{"--redis-file", errors.New("and --redis (or USHER_REDIS) are both set: set one of them")}
	case f.Redis != "":
		return f.Redis, nil
	case f.RedisFile == "":
		return "", ErrNoRedis
	}
	b, err := ReadFile(f.RedisFile, maxAddressBytes)
	if err != nil {
		return "", FlagError{"--redis-file", err}
	}
	address := strings.TrimSpace(string(b))
	if address == "" {
		return "", FlagError{"--redis-file", fmt.Errorf("%s is empty", f.RedisFile)}
	}
	return address, nil
}

// OpenStore opens the store and measures its calls in the registry. The error wraps
// session.ErrLayout if another version has written the data in Redis. If Redis does not
// answer, the calls of the store find that out later.
func (f StoreFlags) OpenStore(reg prometheus.Registerer) (*redis.Store, error) {
	address, err := f.Address()
	if err != nil {
		return nil, err
	}
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
		return nil, FlagError{"--redis", err}
	}
	if err := StoreCheck(store).F(); errors.Is(err, session.ErrLayout) {
		_ = store.Close()
		return nil, FlagError{"--redis", err}
	}
	return store, nil
}

// StoreCheck is met when the store answers within a second.
func StoreCheck(store session.Pinger) Check {
	return Check{Name: "store", Once: true, F: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return store.Ping(ctx)
	}}
}
