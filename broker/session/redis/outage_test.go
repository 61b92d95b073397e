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

// Limits that the callers of the store notice. Both are longer than the second that
// is intended, because a loaded machine is slow.
const (
	callLimit     = 1500 * time.Millisecond // of a call with the default timeout while the server does not answer
	recoveryLimit = 5 * time.Second         // until calls succeed again
)

// expectRefused fails the test unless calls return ErrUnavailable in time, and all
// but the first few at once.
func expectRefused(t *testing.T, s *redis.Store, seen *calls) {
	t.Helper()
	from := len(seen.all())
	for range 6 {
		if _, err := s.Get(t.Context(), session.NewID("ada")); !errors.Is(err, session.ErrUnavailable) {
			t.Fatalf("the server does not answer: %v", err)
		}
	}
	quick := 0
	for _, c := range seen.all()[from:] {
		if c.d > callLimit {
			t.Errorf("%s took %v", c.op, c.d)
		}
		if c.d < 100*time.Millisecond {
			quick++
		}
	}
	if quick < 2 { // three open the breaker, and one may be a probe
		t.Errorf("only %d of 6 calls were refused at once: %+v", quick, seen.all()[from:])
	}
}

// expectRecovery fails the test unless calls succeed within recoveryLimit.
func expectRecovery(t *testing.T, s *redis.Store) {
	t.Helper()
	start := time.Now()
	for s.Ping(t.Context()) != nil {
		if time.Since(start) > recoveryLimit {
			t.Fatalf("no answer %v after the server returned: %v", recoveryLimit, s.Ping(t.Context()))
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("recovered after %v", time.Since(start))
}

func TestKilledServer(t *testing.T) {
	server := redistest.Start(t)
	seen := new(calls)
	log := new(logBuffer)
	s := open(t, server.URL(), redis.Options{Observe: seen.observe, Logger: slog.New(slog.NewTextHandler(log, nil))})
	r, _, err := s.Create(t.Context(), "r", record("ada"), session.Rule{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}

	server.Stop()
	expectRefused(t, s, seen)
	server.Restart()
	expectRecovery(t, s)

	// The server has lost all records. The node of the session restores its own.
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
			t.Errorf("the log has this line %d times, want 1: %s", n, want)
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
	expectRefused(t, s, seen)
	server.Resume()
	expectRecovery(t, s)
}

// Many concurrent callers wait for a timeout each at most.
func TestFrozenServerAndManyCallers(t *testing.T) {
	server := redistest.Start(t)
	seen := new(calls)
	s := open(t, server.URL(), redis.Options{Observe: seen.observe})
	server.Pause()
	var wg sync.WaitGroup
	for range 100 { // more than the client has connections
		wg.Go(func() {
			if err := s.Ping(t.Context()); !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("the server is frozen: %v", err)
			}
		})
	}
	wg.Wait()
	for _, c := range seen.all() {
		if c.d > 2*callLimit {
			t.Errorf("took %v", c.d)
		}
	}
	expectRefused(t, s, seen)
	server.Resume()
	expectRecovery(t, s)
}

func TestServerThatStartsLater(t *testing.T) {
	server := redistest.Start(t)
	server.Stop()
	seen := new(calls)
	s := open(t, server.URL(), redis.Options{Observe: seen.observe})
	expectRefused(t, s, seen)
	server.Restart()
	expectRecovery(t, s)
}

// After many failed dials go-redis refuses calls by itself; the store recovers from
// that too.
func TestServerAfterManyFailedDials(t *testing.T) {
	server := redistest.Start(t)
	server.Stop()
	s := open(t, server.URL()+"?conns=1", redis.Options{})
	for range 3 {
		_ = s.Ping(t.Context())
	}
	server.Restart()
	expectRecovery(t, s)
}

// If one master of three does not answer, the sessions of the others are served.
func TestFrozenMaster(t *testing.T) {
	c := redistest.StartCluster(t)
	s := open(t, c.URL(), redis.Options{})
	users := make(map[string]bool) // at least one on each master
	for _, user := range strings.Fields("ada bob cyd dan eve fay gus hal ida jon") {
		if _, err := s.Sessions(t.Context(), user, 10); err != nil {
			t.Fatal(err)
		}
		users[user] = true
	}
	c.Servers[0].Pause()
	served, refused := 0, 0
	var servedUser string
	for user := range users {
		start := time.Now()
		_, err := s.Sessions(t.Context(), user, 10)
		if d := time.Since(start); d > callLimit {
			t.Errorf("%v after %v", err, d)
		}
		switch {
		case err == nil:
			served++
			servedUser = user
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
	// Three failures in a row may have opened the breaker for a moment.
	for start := time.Now(); time.Since(start) < recoveryLimit; time.Sleep(10 * time.Millisecond) {
		if _, err := s.Sessions(t.Context(), servedUser, 10); err == nil {
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
	if renewed < 300 || renewed > 500 { // two thirds, in every part
		t.Errorf("%d of %d renewed", renewed, len(records))
	}
	c.Servers[0].Resume()
	expectRecovery(t, s)
}

// Calls that their callers cancel do not open the breaker.
func TestCallersThatGiveUp(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, server.URL(), redis.Options{})
	server.Pause()
	for range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel) // the command has been sent by then
		if err := s.Ping(ctx); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("cancelled: %v", err)
		}
	}
	server.Resume()
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// Renew stops at the first part that is not answered, and every record has an error.
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
	if d := time.Since(start); d > 2*callLimit {
		t.Errorf("took %v", d)
	}
}

// record returns a new record, such as a broker creates.
func record(user string) session.Record {
	return session.Record{ID: session.NewID(user), User: user, Node: "node-1", Pool: "default"}
}

// logBuffer keeps a log, and counts texts in it.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}
