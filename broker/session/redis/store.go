// Package redis keeps session records in Redis 6.2 or later: in a single server,
// behind Sentinel, or in a Redis Cluster.
//
// Each transition is one Lua script on keys of one slot, so it is one atomic
// step. All times are those of the Redis server, so the clocks of the members do
// not matter. The nodes restore what Redis loses when they renew their leases. Set
// maxmemory-policy to noeviction, because Redis would evict sessions.
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/usher-broker/usher/broker/session"
)

// Options of a Store. The zero value is usable.
type Options struct {
	// Observe, if set, is called after every call of the store, with the name of
	// the method in lower case, the time it took, and its error. Several goroutines
	// may call it at once.
	Observe func(op string, d time.Duration, err error)

	// Timeout limits every call; 0 means 1 s. The deadline of the call's context
	// limits it too, and a cancelled call returns at once. Renew, Save and EndAll send
	// 256 records at a time: the timeout applies to each of these parts, and twice to
	// a part whose script a server does not have yet. They stop at the first part of
	// which no record was answered.
	Timeout time.Duration

	// Logger receives a line when the server stops answering and when it answers
	// again. nil means no log.
	Logger *slog.Logger
}

// Store is a session.Store in Redis.
type Store struct {
	client  goredis.UniversalClient
	timeout time.Duration
	observe func(op string, d time.Duration, err error)
	breaker *breaker
	batches *batcher
	log     *slog.Logger

	// compatible says that the last check found the layout of this program. Until then
	// each call makes the check first, and from then on one call each layoutInterval, of
	// which the last began at checked, in Unix nanoseconds. refused says that the last
	// check found another layout, which was logged.
	compatible, refused atomic.Bool
	checked             atomic.Int64
}

var _ session.Store = (*Store)(nil)

const (
	failureLimit = 3                      // calls in a row without an answer
	probeEvery   = 500 * time.Millisecond // while the server does not answer
)

// Open returns a store in the Redis that the URL names. The server need not be
// running: until it is, calls return ErrUnavailable. The forms of the URL are
//
//	redis://[user:password@]host[:port][/db]
//	redis-sentinel://[user:password@]host[:port],…[/db]?master=name[&sentinel_user=…][&sentinel_password=…]
//	redis-cluster://[user:password@]host[:port],…
//
// With rediss in place of redis, each form uses TLS and verifies the certificate
// with the system's roots. Behind Sentinel, user and password are those of Redis.
// All forms accept conns=n in the query, the most connections to one server; the
// default is 32. Errors do not contain the URL, because it may contain a password.
func Open(url string, opts Options) (*Store, error) {
	t, err := parse(url)
	if err != nil {
		return nil, err
	}
	if opts.Timeout < 0 {
		return nil, fmt.Errorf("redis: the timeout is %v; it must not be negative", opts.Timeout)
	}
	if opts.Timeout == 0 {
		opts.Timeout = time.Second
	}
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	goredis.SetLogger(clientLog{log})
	s := &Store{client: connect(t, opts.Timeout), timeout: opts.Timeout, observe: opts.Observe, log: log}
	s.batches = &batcher{client: s.client, timeout: opts.Timeout, separate: t.kind == "cluster"}
	s.breaker = newBreaker(failureLimit, probeEvery, func(down bool, cause error) {
		if down {
			log.Warn("the session store does not answer", "error", cause)
		} else {
			log.Info("the session store answers again")
		}
	})
	return s, nil
}

// Close implements session.Store.
func (s *Store) Close() error {
	defer s.batches.close()
	if err := s.client.Close(); err != nil && !errors.Is(err, goredis.ErrClosed) {
		return fmt.Errorf("redis: close: %w", err)
	}
	return nil
}

// Ping implements session.Store. It writes a key, because a server that answers may
// still refuse writes: it may be a replica, be out of memory, or miss slots of its
// cluster. It also compares the layout of the data again.
func (s *Store) Ping(ctx context.Context) error {
	return s.observed(ctx, "ping", s.checkLayout)
}

// do calls f within the timeout and reports the call to Observe. It refuses the call
// if the breaker is open, or if the data has another layout. An error of f that is not
// an answer of the store is wrapped in ErrUnavailable.
func (s *Store) do(ctx context.Context, op string, f func(context.Context) error) error {
	return s.observed(ctx, op, func(ctx context.Context) error {
		if err := s.ensureLayout(ctx); err != nil {
			return err
		}
		return f(ctx)
	})
}

// text returns the value of a key that is a string, or "" if there is none.
func (s *Store) text(ctx context.Context, op, key string) (text string, err error) {
	err = s.do(ctx, op, func(ctx context.Context) error {
		cmd := newCommand(ctx, "get", key)
		_ = s.client.Process(ctx, cmd) // cmd has the error
		text, err = cmd.Text()
		if errors.Is(err, goredis.Nil) {
			return nil
		}
		return err
	})
	return text, err
}

// observed does what do does, without a check of the layout.
func (s *Store) observed(ctx context.Context, op string, f func(context.Context) error) error {
	start := time.Now()
	err := s.attempt(ctx, f)
	if err != nil && !isStoreAnswer(err) && !errors.Is(err, session.ErrLayout) {
		err = fmt.Errorf("%w: %s: %w", session.ErrUnavailable, op, err)
	}
	if s.observe != nil {
		s.observe(op, time.Since(start), err)
	}
	return err
}

func (s *Store) attempt(caller context.Context, f func(context.Context) error) error {
	if err := caller.Err(); err != nil {
		return err
	}
	leave, cause := s.breaker.enter()
	if cause != nil {
		return fmt.Errorf("call refused, because the last calls were not answered: %w", cause)
	}
	ctx, cancel := context.WithTimeout(caller, s.timeout)
	defer cancel()
	err := f(ctx)
	leave(classify(caller, err), err)
	return err
}

// classify returns what the error of a call says about the server. A call whose
// own deadline passed counts as failed: this looks the same as a server that hangs,
// and callers with short deadlines must be able to open the breaker too.
func classify(caller context.Context, err error) outcome {
	var reply goredis.Error
	switch {
	case err == nil, isStoreAnswer(err), errors.As(err, &reply), errors.Is(err, errCorrupt), errors.Is(err, session.ErrLayout):
		return answered
	case errors.Is(caller.Err(), context.Canceled), errors.Is(err, goredis.ErrClosed):
		return abandoned
	}
	return failed
}

// isStoreAnswer reports whether the store answered with the error, so that the
// caller knows the state of the session.
func isStoreAnswer(err error) bool {
	for _, answer := range []error{session.ErrNotFound, session.ErrEnded, session.ErrMoved, session.ErrExists, session.ErrConnected, session.ErrReplayed} {
		if errors.Is(err, answer) {
			return true
		}
	}
	return false
}

// errCorrupt means that the server answered with data that this package does not
// write.
var errCorrupt = errors.New("corrupt")
