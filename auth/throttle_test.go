package auth

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// clock is a clock that the test advances.
type clock struct{ now time.Time }

func newTestThrottle(c ThrottleConfig) (*localThrottle, *clock) {
	k := &clock{time.Unix(1_800_000_000, 0)}
	c.Now = func() time.Time { return k.now }
	return NewThrottle(c).(*localThrottle), k
}

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestThrottleOfAnAccount(t *testing.T) {
	th, clock := newTestThrottle(ThrottleConfig{AccountBurst: 3, AccountEvery: time.Minute})
	for i := range 3 {
		if w := th.Wait(t.Context(), "ada", addr(fmt.Sprintf("1.1.1.%d", i))); w != 0 {
			t.Fatalf("failure %d waits %s", i, w)
		}
		th.Failed(t.Context(), "ada", addr(fmt.Sprintf("1.1.1.%d", i)))
	}
	if w := th.Wait(t.Context(), "ada", addr("9.9.9.9")); w != time.Minute {
		t.Errorf("after the burst: %s", w)
	}
	if w := th.Wait(t.Context(), "bob", addr("1.1.1.1")); w != 0 {
		t.Errorf("another account waits %s", w)
	}
	clock.pass(59 * time.Second)
	if w := th.Wait(t.Context(), "ada", addr("9.9.9.9")); w != time.Second {
		t.Errorf("a second before: %s", w)
	}
	clock.pass(time.Second)
	if w := th.Wait(t.Context(), "ada", addr("9.9.9.9")); w != 0 {
		t.Errorf("after the wait: %s", w)
	}
	th.Failed(t.Context(), "ada", addr("9.9.9.9"))
	if w := th.Wait(t.Context(), "ada", addr("9.9.9.9")); w != time.Minute {
		t.Errorf("one more is one more minute, not %s", w)
	}
	clock.pass(time.Hour)
	for range 3 {
		if w := th.Wait(t.Context(), "ada", addr("9.9.9.9")); w != 0 {
			t.Errorf("the burst does not come back: %s", w)
		}
		th.Failed(t.Context(), "ada", addr("9.9.9.9"))
	}
}

// Logins under way when the limit is reached are not stopped, but they lengthen the wait.
func TestThrottleCountsBeyondTheBurst(t *testing.T) {
	th, _ := newTestThrottle(ThrottleConfig{AccountBurst: 3, AccountEvery: time.Minute})
	for range 10 {
		th.Failed(t.Context(), "ada", netip.Addr{})
	}
	if w := th.Wait(t.Context(), "ada", netip.Addr{}); w != 8*time.Minute {
		t.Errorf("wait is %s", w)
	}
}

func TestThrottleOfAClient(t *testing.T) {
	for name, c := range map[string]struct {
		from, same, other string
	}{
		"IPv4": {"1.2.3.4", "1.2.3.4", "1.2.3.5"},
		"IPv6": {"2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"},
	} {
		t.Run(name, func(t *testing.T) {
			th, _ := newTestThrottle(ThrottleConfig{ClientBurst: 5, ClientEvery: time.Second})
			for i := range 5 {
				th.Failed(t.Context(), fmt.Sprint("user", i), addr(c.from))
			}
			if w := th.Wait(t.Context(), "somebody", addr(c.same)); w != time.Second {
				t.Errorf("the same client waits %s", w)
			}
			if w := th.Wait(t.Context(), "", addr(c.same)); w != time.Second {
				t.Errorf("a guest from there waits %s", w)
			}
			if w := th.Wait(t.Context(), "user1", addr(c.other)); w != 0 {
				t.Errorf("another client waits %s", w)
			}
		})
	}
}

func TestThrottleCountsFailuresOnly(t *testing.T) {
	th, _ := newTestThrottle(ThrottleConfig{})
	for i := range 5000 {
		user := fmt.Sprint("user", i%3)
		if w := th.Wait(t.Context(), user, addr("1.2.3.4")); w != 0 {
			t.Fatalf("login %d waits %s", i, w)
		}
		th.Succeeded(t.Context(), user, addr("1.2.3.4"))
	}
}

// Guessing at an account must not lock out its owner.
func TestThrottleLetsTheOwnerIn(t *testing.T) {
	th, _ := newTestThrottle(ThrottleConfig{AccountBurst: 2})
	th.Succeeded(t.Context(), "ada", addr("1.2.3.4"))
	for range 100 {
		th.Failed(t.Context(), "ada", addr("6.6.6.6"))
	}
	if w := th.Wait(t.Context(), "ada", addr("1.2.3.4")); w != 0 {
		t.Errorf("the owner waits %s", w)
	}
	if w := th.Wait(t.Context(), "ada", addr("1.2.3.5")); w == 0 {
		t.Error("no other client waits")
	}
	if w := th.Wait(t.Context(), "bob", addr("1.2.3.4")); w != 0 {
		t.Errorf("another account from there waits %s", w)
	}
	th.Failed(t.Context(), "ada", addr("1.2.3.4"))
	if w := th.Wait(t.Context(), "ada", addr("1.2.3.4")); w == 0 {
		t.Error("the owner's address may guess without a limit")
	}
}

func TestThrottleForgetsTheOldestWhenFull(t *testing.T) {
	th, _ := newTestThrottle(ThrottleConfig{AccountBurst: 1, Size: 3})
	for _, user := range []string{"a", "b", "c", "a", "d"} {
		th.Failed(t.Context(), user, netip.Addr{})
		th.Succeeded(t.Context(), user, addr("1.2.3.4"))
		th.Failed(t.Context(), "", addr("1.1.1."+fmt.Sprint(user[0])))
	}
	for user, want := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		if got := th.Wait(t.Context(), user, netip.Addr{}) > 0; got != want {
			t.Errorf("%s is remembered: %v, want %v", user, got, want)
		}
	}
	for _, f := range []*failures{th.accounts, th.clients, th.known} {
		if len(f.byKey) > 3 || f.recent.Len() != len(f.byKey) {
			t.Errorf("a table of 3 holds %d keys in a list of %d", len(f.byKey), f.recent.Len())
		}
	}
}

func TestThrottleIgnoresEmptyKeys(t *testing.T) {
	th, _ := newTestThrottle(ThrottleConfig{AccountBurst: 1, ClientBurst: 1})
	for range 10 {
		th.Failed(t.Context(), "", netip.Addr{})
		th.Succeeded(t.Context(), "", netip.Addr{})
	}
	if w := th.Wait(t.Context(), "", netip.Addr{}); w != 0 {
		t.Errorf("wait is %s", w)
	}
}
