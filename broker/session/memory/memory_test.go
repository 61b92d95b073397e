package memory_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/broker/session/sessiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	sessiontest.Run(t, func(t *testing.T) (session.Store, func(time.Duration)) {
		c := &clock{t: time.Now()}
		s := memory.New(c.now)
		t.Cleanup(func() { _ = s.Close() })
		return s, c.advance
	})
}

// clock is a clock that moves only when advance is called.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// Expired records are dropped even if no caller asks for them.
func TestExpiredRecordsAreDropped(t *testing.T) {
	c := &clock{t: time.Now()}
	s := memory.New(c.now)
	fill(t, s, 50_000, time.Minute)
	before := heap()
	for range 10 {
		c.advance(2 * time.Minute)
		fill(t, s, 50_000, time.Minute)
	}
	if grown := float64(heap()) / float64(before); grown > 2 {
		t.Errorf("after ten generations of sessions the heap is %.1f times what it was after one", grown)
	}
	runtime.KeepAlive(s)
}

func TestBytesPerRecord(t *testing.T) {
	const n, limit = 100_000, 544
	before := heap()
	s := memory.New(time.Now)
	fill(t, s, n, time.Hour)
	per := (heap() - before) / n
	t.Logf("%d bytes per record", per)
	if per > limit {
		t.Errorf("%d bytes per record, want at most %d", per, limit)
	}
	runtime.KeepAlive(s)
}

// fill creates n sessions of n users, as logins do.
func fill(t *testing.T, s session.Store, n int, ttl time.Duration) {
	t.Helper()
	for i := range n {
		user := fmt.Sprintf("user-%d", i)
		r := session.Record{
			ID: session.NewID(user), User: user, Node: "node-1", Pool: "default", Region: "eu",
			Ext: json.RawMessage(`{"rank":3}`),
		}
		if _, _, err := s.Create(t.Context(), session.NewRequest(), r, session.Rule{}, ttl); err != nil {
			t.Fatal(err)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // frees what finalizers have released
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Young is set only if another session has joined the group within GroupYoung.
func TestGroupYoung(t *testing.T) {
	c := &clock{t: time.Now()}
	s := memory.New(c.now)
	t.Cleanup(func() { _ = s.Close() })
	join := func(sid string) session.Bound {
		b, err := s.Group(t.Context(), "match", sid, "node-1", "", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	join("a")
	c.advance(session.GroupYoung - time.Second)
	if b := join("b"); !b.Young {
		t.Errorf("%+v", b)
	}
	c.advance(session.GroupYoung + time.Second)
	if b := join("b"); b.Young {
		t.Errorf("%+v", b)
	}
}
