package token

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// publisher is a source of keys. The test sets its answer.
type publisher struct {
	mu    sync.Mutex
	set   []byte
	err   error
	takes time.Duration
	loads int
}

func (p *publisher) load(ctx context.Context) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loads++
	set, err, takes := p.set, p.err, p.takes
	if takes > 0 {
		p.mu.Unlock()
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			err = ctx.Err()
		}
		p.mu.Lock()
	}
	return set, err
}

func (p *publisher) publish(t *testing.T, err error, keys ...byte) {
	t.Helper()
	var list []jwk
	for _, n := range keys {
		k := newJWK(pair(n), atMoment())
		k.D = ""
		list = append(list, k)
	}
	set, e := encodeSet(list...)
	if e != nil {
		t.Fatal(e)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set, p.err = set, err
}

// cut truncates the published set.
func (p *publisher) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set = p.set[:20]
}

func (p *publisher) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.loads
}

func kid(n byte) string { return newJWK(pair(n), atMoment()).ID }

func TestJWKSFetchesKeysAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{}
		p.publish(t, nil, 1, 2)
		j := newJWKS(t.Context(), p.load, httpPace, quiet())
		defer j.Close()
		synctest.Wait()
		for _, n := range []byte{1, 2} {
			if _, err := j.PublicKey(t.Context(), kid(n)); err != nil {
				t.Error(err)
			}
		}
		if err := j.Err(); err != nil || p.count() != 1 {
			t.Errorf("fetched %d times, %v", p.count(), err)
		}
	})
}

func TestUnknownKeysDoNotOverloadTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{}
		p.publish(t, nil, 1)
		j := newJWKS(t.Context(), p.load, httpPace, quiet())
		defer j.Close()
		synctest.Wait()
		start := time.Now()
		for range 1000 { // for 100 s
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					if _, err := j.PublicKey(t.Context(), "forged"); !errors.Is(err, ErrUnknownKey) {
						t.Errorf("error is %v", err)
					}
				})
			}
			wg.Wait()
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(start); took > 101*time.Second {
			t.Errorf("the refusals took %s", took)
		}
		if n := p.count(); n < 5 || n > 11 {
			t.Errorf("10,000 unknown keys in 100 s caused %d fetches", n)
		}
		if _, err := j.PublicKey(t.Context(), kid(1)); err != nil {
			t.Error(err)
		}
	})
}

// All callers that ask for a new key while it is fetched get it, so that a rotation
// causes no refusals.
func TestNewKeyIsFetchedOnceForAllCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{takes: time.Second}
		p.publish(t, nil, 1)
		j := newJWKS(t.Context(), p.load, httpPace, quiet())
		defer j.Close()
		time.Sleep(time.Minute)
		p.publish(t, nil, 1, 2)
		before := p.count()
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				if _, err := j.PublicKey(t.Context(), kid(2)); err != nil {
					t.Errorf("error is %v", err)
				}
			})
		}
		wg.Wait()
		if n := p.count() - before; n != 1 {
			t.Errorf("fetched %d times", n)
		}
	})
}

func TestSourceThatIsNotUpYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		p := &publisher{}
		p.publish(t, errors.New("connection refused"))
		j := newJWKS(t.Context(), p.load, httpPace, slog.New(slog.NewTextHandler(&log, nil)))
		_, err := j.PublicKey(t.Context(), kid(1))
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrInvalid) || j.Err() == nil {
			t.Errorf("error is %v", err)
		}
		time.Sleep(time.Minute)
		if n := p.count(); n < 5 || n > 12 {
			t.Errorf("fetched %d times in a minute", n)
		}
		p.publish(t, nil, 1)
		time.Sleep(httpPace.unknown)
		synctest.Wait()
		if _, err := j.PublicKey(t.Context(), kid(1)); err != nil || j.Err() != nil {
			t.Errorf("after it started: %v, %v", err, j.Err())
		}
		j.Close()
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("logged %d lines:\n%s", n, &log)
		}
	})
}

func TestKnownKeysOutliveTheirSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{}
		p.publish(t, nil, 1)
		j := newJWKS(t.Context(), p.load, httpPace, quiet())
		time.Sleep(time.Second)
		for _, fault := range []func(){
			func() { p.publish(t, errors.New("gone")) },
			func() { p.publish(t, nil) }, // a set without keys
			func() { p.publish(t, nil, 3); p.cut() },
		} {
			fault()
			time.Sleep(time.Hour)
			if _, err := j.PublicKey(t.Context(), kid(1)); err != nil {
				t.Errorf("known key: %v", err)
			}
			if _, err := j.PublicKey(t.Context(), kid(2)); !errors.Is(err, ErrUnavailable) {
				t.Errorf("unknown key: %v", err)
			}
		}
		p.publish(t, nil, 2)
		time.Sleep(httpPace.refresh)
		synctest.Wait()
		if _, err := j.PublicKey(t.Context(), kid(1)); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("withdrawn key: %v", err)
		}
		j.Close()
		if _, err := j.PublicKey(t.Context(), kid(2)); err != nil {
			t.Errorf("known key after Close: %v", err)
		}
	})
}

func TestWaitingForASourceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{takes: time.Hour}
		j := newJWKS(t.Context(), p.load, httpPace, quiet())
		start := time.Now()
		if _, err := j.PublicKey(t.Context(), kid(1)); !errors.Is(err, ErrUnavailable) || time.Since(start) != httpPace.wait {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if _, err := j.PublicKey(ctx, kid(1)); !errors.Is(err, ErrUnavailable) || time.Since(start) != time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		go func() { time.Sleep(time.Second); j.Close() }()
		if _, err := j.PublicKey(t.Context(), kid(1)); !errors.Is(err, ErrUnavailable) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestOpenJWKSOverHTTP(t *testing.T) {
	k, err := NewKeySet()
	if err != nil {
		t.Fatal(err)
	}
	var up atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(k.JWKS())
	}))
	defer srv.Close()
	j, err := OpenJWKS(t.Context(), srv.URL+"/.well-known/jwks.json", quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	raw, err := k.Sign(claimsNow())
	if err != nil {
		t.Fatal(err)
	}
	v := &Verifier{Keys: j}
	if _, err := v.Verify(t.Context(), raw); !errors.Is(err, ErrUnavailable) {
		t.Errorf("before it has started: %v", err)
	}
	up.Store(true)
	deadline := time.Now().Add(20 * time.Second)
	for {
		if _, err = v.Verify(t.Context(), raw); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestOpenJWKSFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	if _, err := OpenJWKS(t.Context(), path, quiet()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	p := &publisher{}
	write := func(n byte) {
		t.Helper()
		p.publish(t, nil, n)
		if err := replaceFile(path, p.set); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	synctest.Test(t, func(t *testing.T) {
		j, err := OpenJWKS(t.Context(), path, quiet())
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		if _, err := j.PublicKey(t.Context(), kid(1)); err != nil {
			t.Error(err)
		}
		write(2)
		time.Sleep(fileInterval)
		if _, err := j.PublicKey(t.Context(), kid(2)); err != nil {
			t.Errorf("after a change: %v", err)
		}
	})
	if _, err := OpenJWKS(t.Context(), "http://", quiet()); err == nil {
		t.Error("a URL without a host is accepted")
	}
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJWKS(t.Context(), path, quiet()); err == nil {
		t.Error("a file without keys is accepted")
	}
}
