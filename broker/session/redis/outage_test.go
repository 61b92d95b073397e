package redis_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/redis"
	"github.com/usher-broker/usher/broker/session/redistest"
)

// Bounds that users see: how long a call may take with the default timeout
// while the store is away, and how soon calls succeed again. A loaded machine
// needs some more than the second of each.
const (
	soon  = 1500 * time.Millisecond
	again = 5 * time.Second
)

// away fails the test unless calls are refused in time, and after the first
// few at once.
func away(t *testing.T, s *redis.Store, seen *calls) {
	t.Helper()
	from := len(seen.all())
	for range 6 {
		if _, err := s.Get(t.Context(), session.NewID("ada")); !errors.Is(err, session.ErrUnavailable) {
			t.Fatalf("the server is away: %v", err)
		}
	}
	quick := 0
	for _, c := range seen.all()[from:] {
		if c.d > soon {
			t.Errorf("%s took %v", c.op, c.d)
		}
		if c.d < 100*time.Millisecond {
			quick++
		}
	}
	if quick < 2 { // three until it is known, perhaps one probe
		t.Errorf("only %d of 6 calls were refused at once: %+v", quick, seen.all()[from:])
	}
}

// back fails the test unless calls succeed before long.
func back(t *testing.T, s *redis.Store) {
	t.Helper()
	start := time.Now()
	for s.Ping(t.Context()) != nil {
		if time.Since(start) > again {
			t.Fatalf("the server is back, and after %v there is no answer: %v", again, s.Ping(t.Context()))
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("back after %v", time.Since(start))
}

func TestKilledServer(t *testing.T) {
	server := redistest.Start(t)
	seen := new(calls)
	log := new(lines)
	s := open(t, server.URL(), redis.Options{Observe: seen.observe, Logger: slog.New(slog.NewTextHandler(log, nil))})
	r, _, err := s.Create(t.Context(), "r", record("ada"), session.Rule{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}

	server.Stop()
	away(t, s, seen)
	server.Restart()
	back(t, s)

	// The server has lost everything; whoever serves the session brings it back.
	if _, err := s.Get(t.Context(), r.ID); !errors.Is(err, session.ErrNotFound) {
		t.Fatal(err)
	}
	r.State = session.Attached
	if err := s.Renew(t.Context(), []session.Record{r}, []time.Duration{time.Hour})[0]; err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), r.ID); err != nil || got.Epoch != r.Epoch || !got.Created.Equal(r.Created) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, want := range []string{"level=WARN msg=\"the session store does not answer\"", "level=INFO msg=\"the session store answers again\""} {
		if n := log.count(want); n != 1 {
			t.Errorf("%d times in the log: %s", n, want)
		}
	}
}

func TestFrozenServer(t *testing.T) {
	server := redistest.Start(t)
	seen := new(calls)
	s := open(t, server.URL(), redis.Options{Observe: seen.observe})
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Pause()
	away(t, s, seen)
	server.Resume()
	back(t, s)
}

// Many callers at once, each at most a timeout.
func TestFrozenServerAndManyCallers(t *testing.T) {
	server := redistest.Start(t)
	seen := new(calls)
	s := open(t, server.URL(), redis.Options{Observe: seen.observe})
	server.Pause()
	var wg sync.WaitGroup
	for range 100 { // more than there are connections
		wg.Go(func() {
			if err := s.Ping(t.Context()); !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("the server is frozen: %v", err)
			}
		})
	}
	wg.Wait()
	for _, c := range seen.all() {
		if c.d > 2*soon {
			t.Errorf("took %v", c.d)
		}
	}
	away(t, s, seen)
	server.Resume()
	back(t, s)
}

func TestServerThatWasNeverThere(t *testing.T) {
	server := redistest.Start(t)
	server.Stop()
	seen := new(calls)
	s := open(t, server.URL(), redis.Options{Observe: seen.observe})
	away(t, s, seen)
	server.Restart()
	back(t, s)
}

// The client keeps a count of failed dials, and past it a mode of its own.
func TestServerThatWasLongAway(t *testing.T) {
	server := redistest.Start(t)
	server.Stop()
	s := open(t, server.URL()+"?conns=1", redis.Options{})
	for range 3 {
		_ = s.Ping(t.Context())
	}
	server.Restart()
	back(t, s)
}

// One master of three that is away takes no others with it.
func TestFrozenMaster(t *testing.T) {
	c := redistest.StartCluster(t)
	s := open(t, c.URL(), redis.Options{})
	users := make(map[string]bool) // one or more of each master
	for _, user := range strings.Fields("ada bob cyd dan eve fay gus hal ida jon") {
		if _, err := s.Sessions(t.Context(), user, 10); err != nil {
			t.Fatal(err)
		}
		users[user] = true
	}
	c.Servers[0].Pause()
	served, refused := 0, 0
	var lucky string // a user who is served
	for user := range users {
		start := time.Now()
		_, err := s.Sessions(t.Context(), user, 10)
		if d := time.Since(start); d > soon {
			t.Errorf("%v after %v", err, d)
		}
		switch {
		case err == nil:
			served++
			lucky = user
		case errors.Is(err, session.ErrUnavailable):
			refused++
		default:
			t.Error(err)
		}
	}
	if served == 0 || refused == 0 {
		t.Errorf("%d served, %d refused", served, refused)
	}
	records, ttls := make([]session.Record, 600), make([]time.Duration, 600)
	for i := range records {
		records[i], ttls[i] = record(fmt.Sprint("user-", i)), time.Hour
		records[i].Epoch, records[i].State, records[i].Created = 1, session.Attached, time.Now()
	}
	// Three failures in a row may have closed the way for a moment.
	for start := time.Now(); time.Since(start) < again; time.Sleep(10 * time.Millisecond) {
		if _, err := s.Sessions(t.Context(), lucky, 10); err == nil {
			break
		}
	}
	renewed := 0
	for _, err := range s.Renew(t.Context(), records, ttls) {
		if err == nil {
			renewed++
		} else if !errors.Is(err, session.ErrUnavailable) {
			t.Error(err)
		}
	}
	if renewed < 300 || renewed > 500 { // two thirds, of every batch
		t.Errorf("%d of %d renewed", renewed, len(records))
	}
	c.Servers[0].Resume()
	back(t, s)
}

// A caller that gives up says nothing about the server: however many do, the
// next is let through.
func TestCallersThatGiveUp(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, server.URL(), redis.Options{})
	server.Pause()
	for range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel) // the call is on its way by then
		if err := s.Ping(ctx); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("given up: %v", err)
		}
	}
	server.Resume()
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// A batch that fails ends the renewal; the records know how they fared.
func TestRenewWithoutServer(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, server.URL(), redis.Options{})
	server.Pause()
	records, ttls := make([]session.Record, 3000), make([]time.Duration, 3000)
	for i := range records {
		records[i], ttls[i] = record("ada"), time.Hour
		records[i].Epoch, records[i].State, records[i].Created = 1, session.Attached, time.Now()
	}
	start := time.Now()
	for i, err := range s.Renew(t.Context(), records, ttls) {
		if !errors.Is(err, session.ErrUnavailable) {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	if d := time.Since(start); d > 2*soon {
		t.Errorf("took %v", d)
	}
}

// record returns a record as a broker would create it.
func record(user string) session.Record {
	return session.Record{ID: session.NewID(user), User: user, Node: "node-1", Pool: "default"}
}

// lines is a log that can be counted in.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}
