package token

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// JWKS follows the public keys that another process publishes. One goroutine fetches
// the keys. If a fetch fails, the keys of the last successful one stay in use. It is
// safe for concurrent use.
type JWKS struct {
	load func(context.Context) ([]byte, error)
	pace pace
	log  *slog.Logger
	wake chan struct{} // requests a fetch now; buffered

	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	keys    map[string]ed25519.PublicKey
	err     error         // why the last fetch failed
	started time.Time     // of the last fetch
	pending chan struct{} // closed at the end of the fetch that is requested or running; nil if there is none
}

// pace says how often a source is fetched.
type pace struct {
	refresh time.Duration // between fetches that succeed
	unknown time.Duration // the shortest time between fetches because of unknown keys
	retry   time.Duration // after the first failure; doubles up to unknown
	wait    time.Duration // the longest time that PublicKey waits for a fetch
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

// Close stops the fetches and waits for a running one to end. PublicKey still returns
// the keys that are known by then.
func (j *JWKS) Close() error {
	j.stop()
	<-j.done
	return nil
}

// PublicKey returns the key. If the key is not known, PublicKey requests a fetch and
// waits for it. However many callers there are, it does not fetch more often than the
// pace allows. While the source does not answer, the error is ErrUnavailable and not
// ErrUnknownKey, because the key may be new.
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
			return nil, fmt.Errorf("%w: the keys did not arrive in time", ErrUnavailable)
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

// find returns the key. If it is not known, find returns the end of the fetch to wait
// for, or nil if no fetch may start now.
func (j *JWKS) find(kid string) (ed25519.PublicKey, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if key := j.keys[kid]; key != nil {
		return key, nil
	}
	if j.pending == nil && time.Since(j.started) >= j.pace.unknown {
		j.pending = make(chan struct{})
		j.wake <- struct{}{} // does not block: pending was nil, so the buffer is empty
	}
	return nil, j.pending
}

// Err returns nil if keys are known, else why they are not.
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
	var logged string // the error that was logged last, so that a lasting one is logged once
	retry := j.pace.retry
	for {
		wait := j.pace.refresh
		err := j.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			wait, retry = retry, min(2*retry, j.pace.unknown)
			if err.Error() != logged {
				message := "cannot read the token keys; the known keys stay in use"
				if j.keys == nil { // only this goroutine sets it
					message = "cannot read the token keys; there are none yet; trying again"
				}
				j.log.Warn(message, "error", err)
			}
			logged = err.Error()
		} else {
			if logged != "" {
				j.log.Info("token keys read")
			}
			logged, retry = "", j.pace.retry
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

// fetch fetches the keys once and wakes the waiting callers of PublicKey.
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
	case <-j.wake: // requested between the timer and the start; this fetch has served it
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
