package auth

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeFailures is a Failures in memory.
type fakeFailures struct {
	mu   sync.Mutex
	now  func() time.Time
	at   map[string]time.Time
	down error
	asks int
}

func (f *fakeFailures) Forgiven(_ context.Context, keys []string) ([]time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asks++
	left := make([]time.Duration, len(keys))
	for i, k := range keys {
		left[i] = max(0, f.at[k].Sub(f.now()))
	}
	return left, f.down
}

func (f *fakeFailures) Fail(_ context.Context, key string, every time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.at[key]
	if at.Before(f.now()) {
		at = f.now()
	}
	f.at[key] = at.Add(every)
	return f.down
}

func (f *fakeFailures) Forgive(_ context.Context, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.at, key)
	return f.down
}

func newTwoAuths() (shared *fakeFailures, k *clock, a, b Throttle) {
	k = &clock{time.Unix(1_800_000_000, 0)}
	shared = &fakeFailures{now: func() time.Time { return k.now }, at: map[string]time.Time{}}
	make1 := func() Throttle {
		return NewThrottle(ThrottleConfig{AccountBurst: 3, AccountEvery: time.Minute, ClientBurst: 5, ClientEvery: time.Minute, Shared: shared, Now: shared.now})
	}
	return shared, k, make1(), make1()
}

// A failure at one auth counts at the other: n auths do not allow n times as many tries.
func TestThrottlesShare(t *testing.T) {
	_, clock, a, b := newTwoAuths()
	for i, th := range []Throttle{a, b, a} {
		if w := th.Wait(t.Context(), "ada", addr("1.1.1.1")); w != 0 {
			t.Fatalf("failure %d waits %v", i, w)
		}
		th.Failed(t.Context(), "ada", addr("1.1.1.1"))
	}
	for _, th := range []Throttle{a, b} {
		if w := th.Wait(t.Context(), "ada", addr("2.2.2.2")); w != time.Minute {
			t.Errorf("from elsewhere: %v", w)
		}
		if w := th.Wait(t.Context(), "bob", addr("1.1.1.1")); w != 0 {
			t.Errorf("another account: %v", w)
		}
	}
	for _, th := range []Throttle{a, b} {
		th.Failed(t.Context(), "bob", addr("1.1.1.1"))
	}
	for _, th := range []Throttle{a, b} {
		if w := th.Wait(t.Context(), "eve", addr("1.1.1.1")); w != time.Minute {
			t.Errorf("from the address that failed: %v", w)
		}
	}
	clock.pass(time.Minute)
	if w := b.Wait(t.Context(), "ada", addr("2.2.2.2")); w != 0 {
		t.Errorf("after the wait: %v", w)
	}
}

// A client that has logged in at one auth may log in at the other while other clients
// guess, until its own first failure.
func TestKnownClientsAreShared(t *testing.T) {
	_, _, a, b := newTwoAuths()
	a.Succeeded(t.Context(), "ada", addr("3.3.3.3"))
	for i := range 5 {
		b.Failed(t.Context(), "ada", addr("9.9.9."+string(rune('1'+i))))
	}
	for name, th := range map[string]Throttle{"a": a, "b": b} {
		if w := th.Wait(t.Context(), "ada", addr("4.4.4.4")); w == 0 {
			t.Errorf("%s: an unknown client may log in", name)
		}
	}
	// b has counted the failures itself, and a the successful login; a third auth neither.
	c := NewThrottle(ThrottleConfig{AccountBurst: 3, AccountEvery: time.Minute, Shared: a.(*sharedThrottle).shared, Now: a.(*sharedThrottle).now})
	if w := c.Wait(t.Context(), "ada", addr("3.3.3.3")); w != 0 {
		t.Errorf("a third auth: the known client waits %v", w)
	}
	c.Failed(t.Context(), "ada", addr("3.3.3.3"))
	if w := c.Wait(t.Context(), "ada", addr("3.3.3.3")); w == 0 {
		t.Error("a known client that failed is still known")
	}
}

func TestThrottleWithoutTheStore(t *testing.T) {
	shared, _, a, _ := newTwoAuths()
	shared.down = errors.New("away")
	var log strings.Builder
	a.(*sharedThrottle).log = slog.New(slog.NewTextHandler(&log, nil))
	for range 3 {
		if w := a.Wait(t.Context(), "ada", addr("1.1.1.1")); w != 0 {
			t.Fatalf("waits %v", w)
		}
		a.Failed(t.Context(), "ada", addr("1.1.1.1"))
	}
	if w := a.Wait(t.Context(), "ada", addr("2.2.2.2")); w != time.Minute {
		t.Errorf("its own count: %v", w)
	}
	if !strings.Contains(log.String(), "this auth only") {
		t.Errorf("logged %q", log.String())
	}
	asks := shared.asks
	a.Wait(t.Context(), "ada", addr("2.2.2.2")) // its own count is enough
	if shared.asks != asks {
		t.Error("the store was asked although it was not needed")
	}
}

func TestSharedKeysRevealNothing(t *testing.T) {
	for _, key := range []string{accountKey("password:ada"), clientKey(addr("1.2.3.4")), knownKey("password:ada", addr("1.2.3.4"))} {
		if len(key) != 32 || strings.Contains(key, "ada") || strings.Contains(key, "1.2.3.4") {
			t.Errorf("key %q", key)
		}
	}
	if accountKey("a") == clientKey(addr("1.1.1.1")) || accountKey("") != "" || knownKey("", addr("1.1.1.1")) != "" {
		t.Error("keys of different kinds are the same, or nothing has a key")
	}
	if clientKey(addr("2001:db8::1")) != clientKey(addr("2001:db8::2")) || clientKey(addr("2001:db8::1")) == clientKey(addr("2001:db8:0:1::1")) {
		t.Error("addresses of one IPv6 /64 have different keys")
	}
}
