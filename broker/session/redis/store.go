// Package redis keeps session records in Redis: alone, behind Sentinel, or in
// a Redis Cluster; version 6.2 or later.
//
// Each transition is one Lua script on keys of one slot, so it is one atomic
// step. Times are those of the Redis server: the clocks of the members do not
// matter. What Redis loses, the nodes bring back when they renew. It should
// run with maxmemory-policy noeviction: what it evicts are sessions.
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/usher-broker/usher/broker/session"
)

// Options of a Store. The zero value is usable.
type Options struct {
	// Observe, if set, is told of every call: its name in lower case, how long
	// it took and how it ended. It may be called by several goroutines at once.
	Observe func(op string, d time.Duration, err error)

	// Timeout bounds every call, 1 s if 0, as does the deadline of its context;
	// a cancellation in the middle of a call is not waited for. Renew and Save are bounded by it for each
	// batch of 256 records, twice if a server must be given the script, and
	// stops at the first batch of which none is answered.
	Timeout time.Duration

	// Logger is told when the server goes away and comes back. nil: nobody.
	Logger *slog.Logger
}

// Store is a session.Store in Redis.
type Store struct {
	client  goredis.UniversalClient
	timeout time.Duration
	observe func(op string, d time.Duration, err error)
	breaker *breaker
	batches *batcher
}

var _ session.Store = (*Store)(nil)

const (
	failureLimit = 3                      // calls in a row without an answer
	probeEvery   = 500 * time.Millisecond // while the server is away
)

// Open returns a store in the Redis that the URL names. The server need not
// be up: calls are refused until it is. The forms are
//
//	redis://[user:password@]host[:port][/db]
//	redis-sentinel://[user:password@]host[:port],…[/db]?master=name[&sentinel_user=…][&sentinel_password=…]
//	redis-cluster://[user:password@]host[:port],…
//
// and each of them with rediss in place of redis for TLS, verified with the
// system's roots. Behind Sentinel, user and password are those of Redis. All
// take conns=n, the bound on connections to one server, 32 if it is not given.
// Errors do not show the URL, which may hold a password.
func Open(url string, opts Options) (*Store, error) {
	t, err := parse(url)
	if err != nil {
		return nil, err
	}
	if opts.Timeout < 0 {
		return nil, errors.New("redis: negative timeout")
	}
	if opts.Timeout == 0 {
		opts.Timeout = time.Second
	}
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	goredis.SetLogger(clientLog{log})
	s := &Store{client: connect(t, opts.Timeout), timeout: opts.Timeout, observe: opts.Observe}
	s.batches = &batcher{client: s.client, timeout: opts.Timeout, alone: t.kind == "cluster"}
	s.breaker = &breaker{
		limit: failureLimit, every: probeEvery, now: time.Now,
		report: func(away bool, cause error) {
			if away {
				log.Warn("the session store does not answer", "error", cause)
			} else {
				log.Info("the session store answers again")
			}
		},
	}
	return s, nil
}

// Close implements session.Store.
func (s *Store) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, goredis.ErrClosed) {
		return fmt.Errorf("redis: close: %w", err)
	}
	return nil
}

// Ping implements session.Store. It writes: a server that is up may still be a
// replica, full, or a cluster without some of its slots, and take nothing.
func (s *Store) Ping(ctx context.Context) error {
	return s.do(ctx, "ping", func(ctx context.Context) error {
		return s.client.Process(ctx, newCommand(ctx, "set", pingKey, "1", "px", 1000))
	})
}

// do makes a call: within the timeout, unless the server is known to be away,
// and observed. Errors of f that are not of package session say that the store
// is unavailable.
func (s *Store) do(ctx context.Context, op string, f func(context.Context) error) error {
	start := time.Now()
	err := s.guard(ctx, f)
	if err != nil && !sentinel(err) {
		err = fmt.Errorf("%w: %s: %w", session.ErrUnavailable, op, err)
	}
	if s.observe != nil {
		s.observe(op, time.Since(start), err)
	}
	return err
}

func (s *Store) guard(caller context.Context, f func(context.Context) error) error {
	if err := caller.Err(); err != nil {
		return err
	}
	probe, cause := s.breaker.enter()
	if cause != nil {
		return fmt.Errorf("not asked, as it did not answer last: %w", cause)
	}
	ctx, cancel := context.WithTimeout(caller, s.timeout)
	defer cancel()
	err := f(ctx)
	s.breaker.leave(probe, judge(caller, err), err)
	return err
}

// judge says what the error of a call says about the server. A caller's
// deadline counts as a failure: it cannot be told from a server that hangs,
// and calls with short deadlines must find out about that as well.
func judge(caller context.Context, err error) outcome {
	var reply goredis.Error
	switch {
	case err == nil, sentinel(err), errors.As(err, &reply), errors.Is(err, errCorrupt):
		return answered
	case errors.Is(caller.Err(), context.Canceled), errors.Is(err, goredis.ErrClosed):
		return abandoned
	}
	return failed
}

// sentinel reports whether the error is an answer of the store.
func sentinel(err error) bool {
	for _, s := range []error{session.ErrNotFound, session.ErrEnded, session.ErrMoved, session.ErrExists, session.ErrConnected, session.ErrReplayed} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// errCorrupt: the server answered, but not with what this package stores.
var errCorrupt = errors.New("corrupt")
