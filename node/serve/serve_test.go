package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testConfig is a node without Redis and auth, on free ports.
func testConfig(t *testing.T) Config {
	t.Helper()
	store := memory.New(time.Now)
	t.Cleanup(func() { store.Close() })
	keys, err := token.NewKeySet()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{ID: "node-1", Listen: "127.0.0.1:0", Store: store, Keys: keys, Logger: slog.New(slog.DiscardHandler)}
	cfg.Gossip = "127.0.0.1:0"
	return cfg
}

// Run serves a node with the defaults of the flags, and returns nil after ctx has
// ended and the node has drained.
func TestRun(t *testing.T) {
	cfg := testConfig(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener = ln
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, node.Echo{}, cfg) }()
	resp, err := http.Get("http://" + ln.Addr().String() + "/v1/connect")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusUpgradeRequired || resp.Header.Get("Usher-Node") != "node-1" {
		t.Errorf("the node answered %s, header %v", resp.Status, resp.Header)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Run returned %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Run has not returned")
	}
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		c.Close()
		t.Error("the listener is still open")
	}
}

// A field that cannot be is named as a flag, which gives exit code 2, and nothing
// stays open.
func TestRunRefuses(t *testing.T) {
	for flag, change := range map[string]func(*Config){
		"--redis":                func(c *Config) { c.Store = nil },
		"--jwks":                 func(c *Config) { c.Keys = nil },
		"--max-sessions":         func(c *Config) { c.MaxSessions = -1 },
		"--drain-timeout":        func(c *Config) { c.DrainTimeout = -1 },
		"--listen":               func(c *Config) { c.Listen = "127.0.0.1:99999" },
		"--ops":                  func(c *Config) { c.Ops = "127.0.0.1:99999" },
		"--advertise":            func(c *Config) { c.Listen = ":0" },
		"--id":                   func(c *Config) { c.ID = "{nothing}" },
		"--gossip":               func(c *Config) { c.Gossip = "127.0.0.1:99999" },
		"--gossip-key":           func(c *Config) { c.GossipKey = "short" },
		"--tls-cert":             func(c *Config) { c.TLSCert = "missing.crt" },
		"--node-key":             func(c *Config) { c.NodeKey = "missing.key" },
		"--max-message-bytes":    func(c *Config) { c.MaxMessageBytes = -1 },
		"--max-unacked-bytes":    func(c *Config) { c.MaxUnackedBytes = 65_535 },
		"--max-unacked-messages": func(c *Config) { c.MaxUnackedCount = -1 },
		"--snapshot-interval":    func(c *Config) { c.SnapshotInterval = -1 },
		"--max-connections":      func(c *Config) { c.MaxConnections = -1 },
	} {
		t.Run(flag, func(t *testing.T) {
			cfg := testConfig(t)
			change(&cfg)
			err := Run(t.Context(), node.Echo{}, cfg)
			var wrong process.FlagError
			if !errors.As(err, &wrong) || wrong.Flag != flag {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	cfg := Config{ID: "mine"}
	cfg.MaxByteRate, cfg.MaxConnectionsPerAddress, cfg.PingInterval = -1, -1, time.Second
	if err := cfg.setDefaults(); err != nil {
		t.Fatal(err)
	}
	if cfg.ID != "mine" || cfg.PingInterval != time.Second {
		t.Errorf("set fields became %q and %v", cfg.ID, cfg.PingInterval)
	}
	if cfg.MaxByteRate != 0 || cfg.MaxConnectionsPerAddress != 0 {
		t.Errorf("no limit became %d and %d", cfg.MaxByteRate, cfg.MaxConnectionsPerAddress)
	}
	if cfg.Listen != ":7000" || cfg.MaxSessions != 10_000 || cfg.DrainTimeout != 25*time.Second || cfg.MaxMessageRate != 2000 ||
		cfg.Pool != "default" || cfg.MaxMessageBytes != 65_536 || cfg.MaxUnackedBytes != 262_144 || cfg.MaxUnackedCount != 1024 || len(cfg.UnlimitedNetworks) != 2 || cfg.GossipLabel != "usher" {
		t.Errorf("defaults: %+v", cfg)
	}
}

// One process may run nodes one after another, with metrics of its own.
func TestRunAgain(t *testing.T) {
	cfg := testConfig(t)
	cfg.Gatherer = prometheus.NewRegistry()
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // it starts, drains and ends
		if err := Run(ctx, node.Echo{}, cfg); err != nil {
			t.Fatal(err)
		}
	}
}

// The keys of tokens are fetched again after the context of the start has ended.
func TestKeysOutliveTheStart(t *testing.T) {
	set, err := token.NewKeySet()
	if err != nil {
		t.Fatal(err)
	}
	var ready atomic.Bool
	jwks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(set.JWKS())
	}))
	defer jwks.Close()
	cfg := testConfig(t)
	cfg.Keys, cfg.JWKS = nil, jwks.URL
	if err := cfg.setDefaults(); err != nil {
		t.Fatal(err)
	}
	n := New(node.Echo{}, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	cancel()
	ready.Store(true)
	for deadline := time.Now().Add(time.Minute); n.keysErr() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the keys were not fetched: %v", n.keysErr())
		}
	}
}

// The defaults come from the tags, never from the environment: that is for Main.
func TestRunIgnoresTheEnvironment(t *testing.T) {
	t.Setenv("USHER_LISTEN", "256.0.0.1:1")
	var cfg Config
	if err := cfg.setDefaults(); err != nil || strings.Contains(cfg.Listen, "256") {
		t.Errorf("%q, %v", cfg.Listen, err)
	}
}
