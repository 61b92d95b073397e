package redis_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/redis"
	"github.com/usher-broker/usher/broker/session/redistest"
)

// reportServer reports the time that the server has spent in scripts, for each of n
// elements of an operation, once the benchmark has ended.
func reportServer(b *testing.B, server *redistest.Server, n int) {
	c := goredis.NewClient(&goredis.Options{Addr: server.Addr()})
	b.Cleanup(func() { _ = c.Close() })
	info, err := c.Info(b.Context(), "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	var calls, usec float64
	_, rest, _ := strings.Cut(info, "cmdstat_evalsha:")
	if _, err := fmt.Sscanf(rest, "calls=%f,usec=%f", &calls, &usec); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(usec/float64(b.N)/float64(n), "redis-µs/op")
}

// A login: Create and Attach.
func BenchmarkLogin(b *testing.B) {
	server := redistest.Start(b)
	s, err := redis.Open(server.URL(), redis.Options{Timeout: testTimeout})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	ctx := b.Context()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := record(session.NewRequest())
			l := session.Lease{ID: r.ID, Node: r.Node, Epoch: 1}
			if _, _, err := s.Create(ctx, session.NewRequest(), r, session.Rule{}, time.Minute); err != nil {
				b.Fatal(err)
			}
			if _, err := s.Attach(ctx, l, "stream", true, 0, time.Minute); err != nil {
				b.Fatal(err)
			}
		}
	})
	reportServer(b, server, 1)
}

// The renewal of all sessions of a full node.
func BenchmarkRenew10000(b *testing.B) {
	server := redistest.Start(b)
	s, err := redis.Open(server.URL(), redis.Options{Timeout: testTimeout})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	records, ttls := make([]session.Record, 10_000), make([]time.Duration, 10_000)
	for i := range records {
		records[i], ttls[i] = record(fmt.Sprint("user-", i)), time.Hour
		records[i].Epoch, records[i].State, records[i].Created = 1, session.Attached, time.Now()
		records[i].Stream, records[i].Ext = session.NewRequest(), []byte(`{"rank":3}`)
	}
	for b.Loop() {
		for _, err := range s.Renew(b.Context(), records, ttls) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	reportServer(b, server, len(records))
}
