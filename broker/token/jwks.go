package token

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
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

// httpPace fetches several times within the overlap of a rotation, so that a new key is
// known here before it signs.
var httpPace = pace{refresh: 5 * time.Minute, unknown: 10 * time.Second, retry: 500 * time.Millisecond, wait: 3 * time.Second}

var filePace = pace{refresh: fileInterval, unknown: fileInterval, retry: fileInterval, wait: time.Second}

const fetchTimeout = 5 * time.Second

// OpenJWKS follows the JWK Set at an http or https URL, or in a file, until Close is
// called or ctx is done. It does not wait for the first answer of a URL: until then,
// PublicKey waits for a few seconds and returns ErrUnavailable. OpenJWKS returns an
// error if a file does not exist or is not valid.
func OpenJWKS(ctx context.Context, urlOrFile string, log *slog.Logger) (*JWKS, error) {
	if !strings.HasPrefix(urlOrFile, "http://") && !strings.HasPrefix(urlOrFile, "https://") {
		if strings.Contains(urlOrFile, "://") {
			return nil, errors.New("token keys: a URL must begin with http:// or https://")
		}
		return openJWKSFile(ctx, urlOrFile, log)
	}
	u, err := url.Parse(urlOrFile)
	if err != nil {
		return nil, errors.New("token keys: not a valid URL") // err quotes the URL and its password
	}
	if u.Host == "" {
		return nil, fmt.Errorf("token keys: the URL %q names no host", u.Redacted())
	}
	return newJWKS(ctx, httpSource(u), httpPace, log), nil
}

func openJWKSFile(ctx context.Context, path string, log *slog.Logger) (*JWKS, error) {
	load := func(context.Context) ([]byte, error) { return readSet(path) }
	if _, err := (&JWKS{load: load}).read(ctx); err != nil {
		return nil, fmt.Errorf("token keys: %s: %w", path, err)
	}
	return newJWKS(ctx, load, filePace, log), nil
}

func readSet(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSetBytes+1))
}

func httpSource(u *url.URL) func(context.Context) ([]byte, error) {
	client := &http.Client{
		// Each fetch makes a new connection: fetches are rare, and an idle
		// connection would stay open after Close.
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: fetchTimeout},
		Timeout:   fetchTimeout,
	}
	return func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, err
		}
		// A fetch because of a new key must not be answered with the old keys by
		// a cache on the way.
		req.Header.Set("Cache-Control", "no-cache")
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: answered %s", u.Redacted(), resp.Status)
		}
		return io.ReadAll(io.LimitReader(resp.Body, maxSetBytes+1))
	}
}
