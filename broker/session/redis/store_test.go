package redis_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/redis"
	"github.com/usher-broker/usher/broker/session/redistest"
	"github.com/usher-broker/usher/broker/session/sessiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	server := redistest.Start(t)
	conformance(t, server.URL(), server.Addr())
}

func TestStoreInCluster(t *testing.T) {
	c := redistest.StartCluster(t)
	conformance(t, c.URL(), c.Servers[0].Addr(), c.Servers[1].Addr(), c.Servers[2].Addr())
}

// All users together use all masters.
func TestClusterIsFilledEvenly(t *testing.T) {
	c := redistest.StartCluster(t)
	s := open(t, c.URL(), redis.Options{Timeout: patience})
	records, ttls := make([]session.Record, 600), make([]time.Duration, 600)
	for i := range records {
		records[i], ttls[i] = record(fmt.Sprint("user-", i)), time.Hour
		records[i].Epoch, records[i].State, records[i].Created = 1, session.Attached, time.Now()
	}
	for _, err := range s.Renew(t.Context(), records, ttls) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, server := range c.Servers {
		n, err := client(t, server.Addr()).DBSize(t.Context()).Result()
		if err != nil || n < 300 || n > 500 { // of 1200, a record and an index each
			t.Errorf("master %d holds %d keys (%v)", i, n, err)
		}
	}
}

func TestStoreBehindSentinel(t *testing.T) {
	sentinel := redistest.StartSentinel(t)
	s := open(t, sentinel.URL(), redis.Options{})
	r, _, err := s.Create(t.Context(), "r", record("ada"), session.Rule{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, sentinel.Master.Addr())
	if n, err := c.Wait(t.Context(), 1, patience).Result(); err != nil || n != 1 {
		t.Fatalf("%d replicas have it (%v)", n, err)
	}
	sentinel.Master.Stop()
	start := time.Now()
	for s.Ping(t.Context()) != nil {
		if time.Since(start) > patience {
			t.Fatalf("no successor: %v", s.Ping(t.Context()))
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("the successor took a transition after %v", time.Since(start))
	if got, err := s.Reassign(t.Context(), "r2", session.Record{ID: r.ID, Epoch: 1}, "node-2", time.Hour); err != nil || got.Epoch != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

// conformance runs the suite against the Redis at the URL, whose servers are
// at the addresses.
func conformance(t *testing.T, url string, servers ...string) {
	var clients []*goredis.Client
	for _, addr := range servers {
		clients = append(clients, client(t, addr))
	}
	sessiontest.Run(t, func(t *testing.T) (session.Store, func(time.Duration)) {
		for _, c := range clients {
			if err := c.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		return open(t, url, redis.Options{Timeout: patience}), func(d time.Duration) {
			t.Helper()
			for _, c := range clients {
				age(t, c, d)
			}
		}
	})
}

// patience is a timeout for tests of which a slow machine is not the subject.
const patience = 20 * time.Second

func open(t *testing.T, url string, opts redis.Options) *redis.Store {
	t.Helper()
	s, err := redis.Open(url, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// client returns a plain client of the server, to look at what it holds.
func client(t *testing.T, addr string) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// age makes every key of the server older: a ttl runs down without anybody
// waiting. Keys without a ttl would stay for ever, so there must be none.
func age(t *testing.T, c *goredis.Client, d time.Duration) {
	t.Helper()
	const script = `
		local eternal = 0
		for _, key in ipairs(redis.call('KEYS', '*')) do
			local left = redis.call('PTTL', key)
			if left < 0 then eternal = eternal + 1
			else redis.call('PEXPIRE', key, left - ARGV[1]) end
		end
		return eternal`
	eternal, err := c.Eval(t.Context(), script, nil, d.Milliseconds()).Int()
	if err != nil || eternal > 0 {
		t.Fatalf("%d keys have no ttl (%v)", eternal, err)
	}
}

// calls records what Observe is told.
type calls struct {
	mu   sync.Mutex
	list []call
}

type call struct {
	op  string
	d   time.Duration
	err error
}

func (c *calls) observe(op string, d time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, call{op, d, err})
}

// all returns the calls observed so far.
func (c *calls) all() []call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]call(nil), c.list...)
}
