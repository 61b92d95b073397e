package cluster

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/usher-broker/usher/proto"
)

func TestMain(m *testing.M) {
	code := m.Run()
	// memberlist does not wait for its goroutines: a probe under way ends with
	// its timeout.
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = goleak.Find(); err == nil {
			break
		}
	}
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// recorder records the events of a member.
type recorder struct {
	mu      sync.Mutex
	peers   map[string]proto.Peer
	left    []string
	reports []proto.Report
}

func (r *recorder) events() Events {
	r.peers = map[string]proto.Peer{}
	return Events{
		Update: func(p proto.Peer) { r.mu.Lock(); r.peers[p.ID] = p; r.mu.Unlock() },
		Leave:  func(id string) { r.mu.Lock(); delete(r.peers, id); r.left = append(r.left, id); r.mu.Unlock() },
		Report: func(p proto.Report) { r.mu.Lock(); r.reports = append(r.reports, p); r.mu.Unlock() },
	}
}

func (r *recorder) peer(id string) proto.Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peers[id]
}

func (r *recorder) knows(id string) bool { return r.peer(id).ID != "" }

func (r *recorder) reported() []proto.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]proto.Report(nil), r.reports...)
}

func nodeConfig(id string, join ...string) Config {
	return Config{
		Self: proto.Peer{ID: id, Role: proto.RoleNode, State: proto.StateReady, Capacity: 1000, Generation: 1},
		Bind: "127.0.0.1:0", Join: join, Label: "test", Rejoin: 100 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func authConfig(id string, join ...string) Config {
	cfg := nodeConfig(id, join...)
	cfg.Self = proto.Peer{ID: id, Role: proto.RoleAuth, State: proto.StateReady, Generation: 1}
	return cfg
}

func start(t *testing.T, cfg Config) *Cluster {
	t.Helper()
	c, err := Join(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// pair starts an auth and a node that know each other.
func pair(t *testing.T, auth, node Config) (a, n *Cluster) {
	t.Helper()
	a = start(t, auth)
	node.Join = []string{a.Addr()}
	n = start(t, node)
	eventually(t, "the two to know each other", func() bool { return len(a.Members()) == 2 && len(n.Members()) == 2 })
	return a, n
}
