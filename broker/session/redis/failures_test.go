package redis_test

import (
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session/redis"
	"github.com/usher-broker/usher/broker/session/redistest"
)

func TestFailures(t *testing.T) {
	t.Run("one server", func(t *testing.T) { failures(t, redistest.Start(t).URL()) })
	t.Run("cluster", func(t *testing.T) { failures(t, redistest.StartCluster(t).URL()) })
}

func failures(t *testing.T, url string) {
	s := open(t, url, redis.Options{Timeout: testTimeout})
	about := func(d, want time.Duration) bool { return d <= want && d > want-5*time.Second }
	left := func(keys ...string) []time.Duration {
		t.Helper()
		list, err := s.Forgiven(t.Context(), keys)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := left("a", "b"); got[0] != 0 || got[1] != 0 {
		t.Errorf("before the first failure: %v", got)
	}
	for i := range 3 {
		if err := s.Fail(t.Context(), "a", time.Minute); err != nil {
			t.Fatal(err)
		}
		if got := left("b", "a"); got[0] != 0 || !about(got[1], time.Duration(i+1)*time.Minute) {
			t.Errorf("after %d failures: %v", i+1, got)
		}
	}
	if err := s.Forgive(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.Forgive(t.Context(), "never"); err != nil {
		t.Fatal(err)
	}
	if got := left("a"); got[0] != 0 {
		t.Errorf("forgiven: %v", got)
	}
	if err := s.Fail(t.Context(), "short", 20*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	time.Sleep(40 * time.Millisecond)
	if got := left("short"); got[0] != 0 {
		t.Errorf("it should be forgiven by now: %v", got)
	}
}
