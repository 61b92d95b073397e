package redis_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/redis"
	"github.com/usher-broker/usher/broker/session/redistest"
)

// oldKey is the index of a user as layout 1 named it.
const oldKey = "usher:{8d969eef}:user:ada"

// expectOtherLayout fails the test unless all kinds of calls are refused, with an error
// that names the cause and the remedies, and without waiting for anything.
func expectOtherLayout(t *testing.T, s *redis.Store, cause string) {
	t.Helper()
	r := record("ada")
	_, getErr := s.Get(t.Context(), r.ID)
	_, _, createErr := s.Create(t.Context(), "r", r, session.Rule{}, time.Hour)
	_, forgivenErr := s.Forgiven(t.Context(), []string{"ada"})
	r.Epoch, r.State, r.Created = 1, session.Attached, time.Now()
	for op, err := range map[string]error{
		"ping": s.Ping(t.Context()), "get": getErr, "create": createErr, "forgiven": forgivenErr,
		"renew":  s.Renew(t.Context(), []session.Record{r}, []time.Duration{time.Hour})[0],
		"endall": s.EndAll(t.Context(), []session.Ending{{ID: r.ID}}, time.Hour)[0],
	} {
		if !errors.Is(err, session.ErrLayout) || !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%s: %v", op, err)
			continue
		}
		for _, text := range []string{cause, "needs layout 2", "empty database", "delete its keys", "have expired"} {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %q lacks %q", op, err, text)
			}
		}
	}
}

// expectUsable fails the test unless the store opens sessions.
func expectUsable(t *testing.T, s *redis.Store) {
	t.Helper()
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if _, _, err := s.Create(t.Context(), "r", record("ada"), session.Rule{}, time.Hour); err != nil {
		t.Error(err)
	}
}

// A store that is used finds out that another version took over the database, although
// nobody pings it.
func TestLayoutChangesLater(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, server.URL(), redis.Options{Timeout: testTimeout})
	expectUsable(t, s)
	client(t, server.Addr()).Set(t.Context(), "usher:layout", "3", 0)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		_, err := s.Get(t.Context(), session.NewID("ada"))
		if errors.Is(err, session.ErrLayout) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("30 s after the change: %v", err)
		}
	}
	expectOtherLayout(t, s, `"3"`)
}

func TestEmptyDatabaseGetsTheMarker(t *testing.T) {
	server := redistest.Start(t)
	c := client(t, server.Addr())
	c.Set(t.Context(), "another:program", "x", 0)
	c.Set(t.Context(), "usher:{abcdefg!}:user:x", "no key of layout 1", 0)
	expectUsable(t, open(t, server.URL(), redis.Options{Timeout: testTimeout}))
	if v := c.Get(t.Context(), "usher:layout").Val(); v != "2" {
		t.Errorf("the marker is %q", v)
	}
	if ttl := c.PTTL(t.Context(), "usher:layout").Val(); ttl != -1 {
		t.Errorf("the marker expires after %v", ttl)
	}
	// The first call of a store looks for the marker too.
	s := open(t, server.URL(), redis.Options{Timeout: testTimeout})
	if _, err := s.Get(t.Context(), session.NewID("ada")); !errors.Is(err, session.ErrNotFound) {
		t.Error(err)
	}
}

func TestOldDataIsRefused(t *testing.T) {
	server := redistest.Start(t)
	c := client(t, server.Addr())
	s := open(t, server.URL(), redis.Options{Timeout: testTimeout})
	others := make([]any, 0, 24_000) // so that one step of the search does not see all
	for i := range cap(others) / 2 {
		others = append(others, fmt.Sprint("another:program:", i), "x")
	}
	if err := c.MSet(t.Context(), others...).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), "zadd", oldKey, 1, "8d969eef.aaaaaaaaaaaaaaaaaaaaaaaaaa").Err(); err != nil {
		t.Fatal(err)
	}
	expectOtherLayout(t, s, `sessions of layout 1 (key "`+oldKey+`")`)
	if n := c.Exists(t.Context(), "usher:layout").Val(); n != 0 {
		t.Error("the store has set the marker")
	}
	if err := c.Del(t.Context(), oldKey).Err(); err != nil {
		t.Fatal(err)
	}
	expectUsable(t, s)
}

func TestOldDataInAClusterIsRefused(t *testing.T) {
	c := redistest.StartCluster(t)
	for i, server := range c.Servers {
		// One key on this master only.
		key, admin := "", client(t, server.Addr())
		for n := range 1000 {
			key = fmt.Sprintf("usher:{%08x}:user:ada", n)
			if admin.Set(t.Context(), key, "x", 0).Err() == nil {
				break
			}
		}
		s := open(t, c.URL(), redis.Options{Timeout: testTimeout})
		expectOtherLayout(t, s, "sessions of layout 1 (key \"usher:{")
		if err := admin.Del(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
		if i == len(c.Servers)-1 {
			expectUsable(t, s)
		}
	}
}

// Another version may set the marker at any time, for instance after Redis has lost its
// data. Ping notices it, and the calls are refused from then on.
func TestMarkerOfAnotherVersion(t *testing.T) {
	server := redistest.Start(t)
	c := client(t, server.Addr())
	s := open(t, server.URL(), redis.Options{Timeout: testTimeout})
	expectUsable(t, s)
	for _, version := range []string{"3", "1", "x"} {
		if err := c.Set(t.Context(), "usher:layout", version, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.Ping(t.Context()); !errors.Is(err, session.ErrLayout) {
			t.Fatal(err)
		}
		expectOtherLayout(t, s, `the layout "`+version+`"`)
		expectOtherLayout(t, open(t, server.URL(), redis.Options{Timeout: testTimeout}), `the layout "`+version+`"`)
	}
	if err := c.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	expectUsable(t, s)
}

// A store that was opened before the server started finds the old data later.
func TestOldDataIsFoundWhenTheServerIsBack(t *testing.T) {
	server := redistest.Start(t)
	server.Stop()
	s := open(t, server.URL(), redis.Options{Timeout: testTimeout})
	if err := s.Ping(t.Context()); !errors.Is(err, session.ErrUnavailable) || errors.Is(err, session.ErrLayout) {
		t.Fatal(err)
	}
	server.Restart()
	if err := client(t, server.Addr()).Set(t.Context(), oldKey, "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	expectOtherLayout(t, s, "sessions of layout 1")
}
