package redis_test

import (
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/redis"
	"github.com/usher-broker/usher/broker/session/redistest"
)

// Young is set only if another session has joined the group within GroupYoung.
func TestGroupYoung(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, server.URL(), redis.Options{})
	join := func(sid string) session.Bound {
		b, err := s.Group(t.Context(), "match", sid, "node-1", "", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	join("a")
	if b := join("b"); !b.Young {
		t.Errorf("%+v", b)
	}
	c := client(t, server.Addr())
	keys, err := c.Keys(t.Context(), "usher:{??}:group:*:sessions").Result()
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	then := time.Now().Add(-session.GroupYoung - time.Second).UnixMilli()
	c.ZAdd(t.Context(), keys[0], goredis.Z{Score: float64(then), Member: "a"})
	if b := join("b"); b.Young {
		t.Errorf("%+v", b)
	}
	for _, key := range append(keys, strings.TrimSuffix(keys[0], ":sessions")) {
		if ttl := c.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > time.Hour {
			t.Errorf("%s is kept for %v", key, ttl)
		}
	}
}
