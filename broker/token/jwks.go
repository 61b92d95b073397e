package token

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// JWKS follows the public keys that another process publishes. One goroutine
// fetches; the keys it has found stay in use when a later fetch fails. It is
// safe for concurrent use.
type JWKS struct {
	load func(context.Context) ([]byte, error)
	pace pace
	log  *slog.Logger
	wake chan struct{} // buffered: a fetch is wanted now

	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	keys    map[string]ed25519.PublicKey
	err     error         // why the last fetch failed
	started time.Time     // of the last fetch
	pending chan struct{} // closed at the end of the fetch that is wanted or under way; else nil
}

// pace says how often a source is asked.
type pace struct {
	refresh time.Duration // when all is well
	unknown time.Duration // at most, because of tokens with keys unknown here
	retry   time.Duration // after the first failure; doubles up to unknown
	wait    time.Duration // at most, of one token for a fetch
}

func newJWKS(ctx context.Context, load func(context.Context) ([]byte, error), p pace, log *slog.Logger) *JWKS {
	ctx, stop := context.WithCancel(ctx)
	j := &JWKS{
		load: load, pace: p, log: log,
		wake: make(chan struct{}, 1),
		stop: stop, done: make(chan struct{}),
		pending: make(chan struct{}), // the first fetch
	}
	go j.run(ctx)
	return j
}

// Close stops following and waits until nothing is under way. The keys known
// by then can still be asked for.
func (j *JWKS) Close() error {
	j.stop()
	<-j.done
	return nil
}

// PublicKey returns the key. For one that is not known it has the source asked
// again, but not more often than the pace allows however many ask, and waits
// for the answer. It returns ErrUnavailable, not ErrUnknownKey, while the
// source does not answer: the key may be a new one.
func (j *JWKS) PublicKey(ctx context.Context, kid string) (ed25519.PublicKey, error) {
	key, pending := j.find(kid)
	if key != nil {
		return key, nil
	}
	if pending != nil {
		timeout := time.NewTimer(j.pace.wait)
		defer timeout.Stop()
		select {
		case <-pending:
		case <-j.done:
		case <-timeout.C:
			return nil, fmt.Errorf("%w: the keys did not come in time", ErrUnavailable)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch key := j.keys[kid]; {
	case key != nil:
		return key, nil
	case j.err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, j.err)
	case j.keys == nil:
		return nil, fmt.Errorf("%w: none fetched yet", ErrUnavailable)
	}
	return nil, fmt.Errorf("%w: %q", ErrUnknownKey, kid)
}

// find returns the key, or what to wait for in hope of it, or neither.
func (j *JWKS) find(kid string) (ed25519.PublicKey, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if key := j.keys[kid]; key != nil {
		return key, nil
	}
	if j.pending == nil && time.Since(j.started) >= j.pace.unknown {
		j.pending = make(chan struct{})
		j.wake <- struct{}{} // there is room: pending was nil
	}
	return nil, j.pending
}

// Err returns nil when keys are known, or else why they are not.
func (j *JWKS) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.keys != nil:
		return nil
	case j.err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, j.err)
	}
	return fmt.Errorf("%w: none fetched yet", ErrUnavailable)
}

func (j *JWKS) run(ctx context.Context) {
	defer close(j.done)
	var told string
	retry := j.pace.retry
	for {
		wait := j.pace.refresh
		err := j.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			wait, retry = retry, min(2*retry, j.pace.unknown)
			if err.Error() != told {
				j.log.Warn("token keys not read", "error", err)
			}
			told = err.Error()
		} else {
			if told != "" {
				j.log.Info("token keys read again")
			}
			told, retry = "", j.pace.retry
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-j.wake:
			timer.Stop()
		}
	}
}

// fetch asks the source once and answers whoever waits.
func (j *JWKS) fetch(ctx context.Context) error {
	j.mu.Lock()
	if j.pending == nil {
		j.pending = make(chan struct{})
	}
	j.started = time.Now()
	j.mu.Unlock()

	found, err := j.read(ctx)

	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err = err; err == nil {
		j.keys = found
	}
	select {
	case <-j.wake: // asked for between the timer and the start: that was this fetch
	default:
	}
	close(j.pending)
	j.pending = nil
	return err
}

func (j *JWKS) read(ctx context.Context) (map[string]ed25519.PublicKey, error) {
	set, err := j.load(ctx)
	if err != nil {
		return nil, err
	}
	found := make(map[string]ed25519.PublicKey)
	err = eachKey(set, func(k jwk, public ed25519.PublicKey) error {
		found[k.ID] = public
		return nil
	})
	return found, err
}
