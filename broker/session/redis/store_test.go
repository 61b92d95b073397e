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

// The sessions of many users are spread over all masters.
func TestSessionsAreSpreadOverMasters(t *testing.T) {
	c := redistest.StartCluster(t)
	s := open(t, c.URL(), redis.Options{Timeout: testTimeout})
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
		if err != nil || n < 300 || n > 500 { // of 1200: a record and an index for each user
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
	if n, err := c.Wait(t.Context(), 1, testTimeout).Result(); err != nil || n != 1 {
		t.Fatalf("%d replicas have the record (%v), want 1", n, err)
	}
	sentinel.Master.Stop()
	start := time.Now()
	for s.Ping(t.Context()) != nil {
		if time.Since(start) > testTimeout {
			t.Fatalf("no new master: %v", s.Ping(t.Context()))
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("the new master accepted a write after %v", time.Since(start))
	if got, err := s.Reassign(t.Context(), "r2", session.Record{ID: r.ID, Epoch: 1}, "node-2", time.Hour); err != nil || got.Epoch != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

// conformance runs the suite against the Redis at url, whose servers have the
// addresses.
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
		return open(t, url, redis.Options{Timeout: testTimeout}), func(d time.Duration) {
			t.Helper()
			for _, c := range clients {
				age(t, c, d)
			}
		}
	})
}

// testTimeout is the timeout of stores in tests that do not test timeouts. A slow
// machine must not make these tests fail.
const testTimeout = 20 * time.Second

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

// client returns a plain client of the server, to read its data.
func client(t *testing.T, addr string) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// age reduces the ttl of every key of the server by d, so that the test need not
// wait. It fails the test if a key has no ttl, because that key would never expire; only
// the marker of the layout stays.
func age(t *testing.T, c *goredis.Client, d time.Duration) {
	t.Helper()
	const script = `
		local without = 0
		for _, key in ipairs(redis.call('KEYS', '*')) do
			local left = redis.call('PTTL', key)
			if key == 'usher:layout' then -- stays
			elseif left < 0 then without = without + 1
			else redis.call('PEXPIRE', key, left - ARGV[1]) end
		end
		return without`
	without, err := c.Eval(t.Context(), script, nil, d.Milliseconds()).Int()
	if err != nil || without > 0 {
		t.Fatalf("%d keys have no ttl (%v)", without, err)
	}
}

// calls records the calls of Observe.
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
