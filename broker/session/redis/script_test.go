package redis_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/redis"
	"github.com/usher-broker/usher/broker/session/redistest"
)

// If a server has lost the scripts, as after a restart, the store sends them again,
// and each call is executed once.
func TestFlushedScriptsAreSentAgain(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, server.URL(), redis.Options{Timeout: testTimeout})
	c := client(t, server.Addr())
	r := record("ada")
	steps := []func() (session.Record, error){
		func() (session.Record, error) {
			r, _, err := s.Create(t.Context(), "r1", r, session.Rule{}, time.Hour)
			return r, err
		},
		func() (session.Record, error) {
			return s.Reassign(t.Context(), "r2", session.Record{ID: r.ID, Epoch: 1}, "node-2", time.Hour)
		},
		func() (session.Record, error) {
			return s.Attach(t.Context(), session.Lease{ID: r.ID, Node: "node-2", Epoch: 2}, "stream", true, 0, time.Hour)
		},
		func() (session.Record, error) {
			got, _ := s.Get(t.Context(), r.ID)
			return got, s.Renew(t.Context(), []session.Record{got}, []time.Duration{time.Hour})[0]
		},
		func() (session.Record, error) {
			list, err := s.Sessions(t.Context(), "ada", 1)
			if len(list) != 1 {
				return session.Record{}, fmt.Errorf("%d sessions: %w", len(list), err)
			}
			return list[0], err
		},
		func() (session.Record, error) {
			_, err := s.Group(t.Context(), "g", "sid", "node-1", "", time.Hour)
			return session.Record{Epoch: 2}, err
		},
		func() (session.Record, error) {
			return session.Record{Epoch: 2}, s.Ungroup(t.Context(), "g", "sid")
		},
		func() (session.Record, error) {
			_, err := s.Wait(t.Context(), "queue", "entry", "broker-1", time.Hour)
			return session.Record{Epoch: 2}, err
		},
		func() (session.Record, error) {
			return session.Record{Epoch: 2}, s.Admit(t.Context(), "queue", "entry", "sid", "broker-1", time.Hour)
		},
		func() (session.Record, error) {
			v := session.Saved{Lease: session.Lease{ID: r.ID, Node: "node-2", Epoch: 2}, Stream: "stream", Seq: 1, TTL: time.Hour}
			return session.Record{Epoch: 2}, s.Save(t.Context(), []session.Saved{v})[0]
		},
		func() (session.Record, error) {
			r, _, err := s.Restore(t.Context(), session.Lease{ID: r.ID, Node: "node-2", Epoch: 2})
			return r, err
		},
		func() (session.Record, error) {
			v := session.Saved{Lease: session.Lease{ID: r.ID, Node: "node-2", Epoch: 2}, Stream: "stream", Seq: 2, TTL: time.Hour}
			moved, err := s.Move(t.Context(), "r3", v, "node-3")
			moved.Epoch--
			return moved, err
		},
		func() (session.Record, error) {
			ended, err := s.End(t.Context(), r.ID, 0, 4001, "", time.Hour)
			ended.Epoch--
			return ended, err
		},
		func() (session.Record, error) {
			_, err := s.EndUser(t.Context(), "ada", 4001, "", time.Hour)
			return session.Record{Epoch: 2}, err
		},
		func() (session.Record, error) {
			list := []session.Ending{{ID: r.ID, Epoch: 3, Reason: 4001}}
			return session.Record{Epoch: 2}, s.EndAll(t.Context(), list, time.Hour)[0]
		},
	}
	for i, step := range steps {
		if err := c.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		got, err := step()
		if want := uint64(min(i+1, 2)); err != nil || got.Epoch != want {
			t.Errorf("step %d: epoch %d, want %d, error %v", i, got.Epoch, want, err)
		}
	}
}

// A request that is repeated several times, although the first try arrived, acts
// once.
func TestRetriedRequestActsOnce(t *testing.T) {
	server := redistest.Start(t)
	r := record("ada")
	for i := range 5 { // each try with a new store, as from another process
		s := open(t, server.URL(), redis.Options{Timeout: testTimeout})
		got, _, err := s.Create(t.Context(), "create", r, session.Rule{}, time.Hour)
		if err != nil || got.Epoch != 1 {
			t.Fatalf("try %d: %+v, %v", i, got, err)
		}
	}
	for i := range 5 {
		s := open(t, server.URL(), redis.Options{Timeout: testTimeout})
		got, err := s.Reassign(t.Context(), "move", session.Record{ID: r.ID, Epoch: 1}, fmt.Sprint("node-", i+2), time.Hour)
		if err != nil || got.Epoch != 2 || got.Node != "node-2" {
			t.Fatalf("try %d: %+v, %v", i, got, err)
		}
	}
}

// Whatever the key of a session holds, calls return an error if it is not a record,
// and a renewal replaces it.
func TestCorruptRecords(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, server.URL(), redis.Options{Timeout: testTimeout})
	c := client(t, server.Addr())
	r := record("ada")
	tag, _ := session.TagOf(r.ID)
	key := "usher:{" + tag + "}:session:" + r.ID
	fields := strings.Fields("user ada node node-1 epoch 1 state assigned reason 0 created 1 changed 1")
	for name, put := range map[string][]any{
		"a string":         {"set", key, "x"},
		"a list":           {"rpush", key, "x"},
		"another hash":     {"hset", key, "x", "y"},
		"unknown state":    corrupt(key, fields, "state", "asleep"),
		"an epoch of text": corrupt(key, fields, "epoch", "one"),
		"a negative epoch": corrupt(key, fields, "epoch", "-1"),
		"a huge epoch":     corrupt(key, fields, "epoch", strings.Repeat("9", 30)),
		"a large reason":   corrupt(key, fields, "reason", "70000"),
		"a time as float":  corrupt(key, fields, "created", "1e9"),
		"no owner":         corrupt(key, fields, "node", ""),
		"no user":          corrupt(key, fields, "user", ""),
		"another user's":   corrupt(key, fields, "user", "eve"),
	} {
		t.Run(name, func(t *testing.T) {
			for op, f := range map[string]func() (session.Record, error){
				"get": func() (session.Record, error) { return s.Get(t.Context(), r.ID) },
				"reassign": func() (session.Record, error) {
					return s.Reassign(t.Context(), "r", session.Record{ID: r.ID, Epoch: 7}, "node-2", time.Hour)
				},
				"attach": func() (session.Record, error) {
					return s.Attach(t.Context(), session.Lease{ID: r.ID, Node: "node-9", Epoch: 7}, "s", true, 0, time.Hour)
				},
			} {
				if err := c.Del(t.Context(), key).Err(); err != nil {
					t.Fatal(err)
				}
				if err := c.Do(t.Context(), put...).Err(); err != nil {
					t.Fatal(err)
				}
				if _, err := f(); !errors.Is(err, session.ErrUnavailable) {
					t.Errorf("%s: %v", op, err)
				}
			}
			if err := s.Ping(t.Context()); err != nil {
				t.Errorf("the rest of the store: %v", err)
			}
		})
	}
	t.Run("restored", func(t *testing.T) {
		for _, put := range [][]any{{"set", key, "x"}, {"hset", key, "x", "y"}} {
			if err := errors.Join(c.Del(t.Context(), key).Err(), c.Do(t.Context(), put...).Err()); err != nil {
				t.Fatal(err)
			}
			live := r
			live.Epoch, live.State, live.Created = 4, session.Attached, time.Now()
			if err := s.Renew(t.Context(), []session.Record{live}, []time.Duration{time.Hour})[0]; err != nil {
				t.Fatal(err)
			}
			if got, err := s.Get(t.Context(), r.ID); err != nil || got.Epoch != 4 {
				t.Errorf("%+v, %v", got, err)
			}
		}
	})
}

// corrupt returns the command that stores the record with another value of a field.
func corrupt(key string, fields []string, field, value string) []any {
	cmd := []any{"hset", key}
	for _, s := range fields {
		cmd = append(cmd, s)
	}
	return append(cmd, field, value)
}

// The index of a user stays small even if Sessions is never called, and is deleted
// with the last session.
func TestIndexStaysSmall(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, server.URL(), redis.Options{Timeout: testTimeout})
	c := client(t, server.Addr())
	index := "usher:{" + session.Tag("ada") + "}:user:ada"
	if _, _, err := s.Create(t.Context(), "r", record("ada"), session.Rule{}, 10*time.Hour); err != nil { // keeps the index
		t.Fatal(err)
	}
	for range 10 {
		for range 50 {
			if _, _, err := s.Create(t.Context(), session.NewRequest(), record("ada"), session.Rule{}, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		age(t, c, 2*time.Minute)
	}
	if n, err := c.ZCard(t.Context(), index).Result(); err != nil || n > 150 {
		t.Errorf("1 of 501 sessions is alive, and the index has %d (%v)", n, err)
	}
	age(t, c, 11*time.Hour)
	if keys, err := c.Keys(t.Context(), "*").Result(); err != nil || !slices.Equal(keys, []string{"usher:layout"}) {
		t.Errorf("keys %q are left (%v)", keys, err)
	}
}

// The store keeps the tombstone of an ended session and removes it from the index.
func TestEndedSessionLeavesTheIndex(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, server.URL(), redis.Options{Timeout: testTimeout})
	r, _, err := s.Create(t.Context(), "r", record("ada"), session.Rule{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.End(t.Context(), r.ID, 0, 4001, "", time.Hour); err != nil {
		t.Fatal(err)
	}
	if keys, err := client(t, server.Addr()).Keys(t.Context(), "usher:{*").Result(); err != nil || len(keys) != 1 {
		t.Errorf("keys %q, %v", keys, err)
	}
}

// Records also expire by the clock of the server itself.
func TestExpiry(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, server.URL(), redis.Options{Timeout: testTimeout})
	r := record("ada")
	start := time.Now()
	if _, _, err := s.Create(t.Context(), "r", r, session.Rule{}, 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := s.Get(t.Context(), r.ID)
		if errors.Is(err, session.ErrNotFound) {
			break
		}
		if err != nil || time.Since(start) > recoveryLimit {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if d := time.Since(start); d < 300*time.Millisecond {
		t.Errorf("expired after %v", d)
	}
}

func TestObserve(t *testing.T) {
	server := redistest.Start(t)
	seen := new(calls)
	s := open(t, server.URL(), redis.Options{Timeout: testTimeout, Observe: seen.observe})
	_, _ = s.Get(t.Context(), session.NewID("ada"))
	_ = s.Ping(t.Context())
	all := seen.all()
	if len(all) != 2 || all[0].op != "get" || !errors.Is(all[0].err, session.ErrNotFound) || all[0].d <= 0 ||
		all[1].op != "ping" || all[1].err != nil {
		t.Errorf("observed %+v", all)
	}
}
