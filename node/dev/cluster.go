package dev

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/auth/credential"
	authserve "github.com/usher-broker/usher/auth/serve"
	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/broker/process"
	brokerserve "github.com/usher-broker/usher/broker/serve"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/proto"
)

// Cluster is a running cluster in this process. Its methods are safe for
// concurrent use.
type Cluster struct {
	app      func(id string) node.App
	cfg      Config
	store    session.Store
	keys     *token.KeySet
	registry *prometheus.Registry
	join     string // gossip address of the auth
	broker   *brokerserve.Broker
	auth     *authserve.Auth
	api      *process.Server
	ops      *process.Server
	stop     process.Closers
	closing  sync.Once

	mu     sync.Mutex // protects the following
	port   int        // first port that the next node tries
	count  int        // of nodes ever started
	nodes  map[string]*devNode
	closed bool
}

// Start starts a cluster with the application. It returns when a login can
// succeed. Fields of cfg that are zero have the defaults of the flags.
func Start(app node.App, cfg Config) (*Cluster, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return start(app, cfg)
}

func start(app node.App, cfg Config) (_ *Cluster, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := newCluster(app, cfg)
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	// The ports are bound first: a port in use, the most likely mistake, is
	// reported at once. They are served when a login can succeed.
	authListener, err := c.listen("--auth", cfg.Auth)
	if err != nil {
		return nil, err
	}
	apiListener, err := c.listen("--api", cfg.API)
	if err != nil {
		return nil, err
	}
	store := memory.New(time.Now)
	c.stop.Add(func() { store.Close() })
	c.store = store
	if c.keys, err = token.NewKeySet(); err != nil {
		return nil, err
	}
	login, err := c.startBroker(proto.RoleAuth)
	if err != nil {
		return nil, err
	}
	c.join = login.Cluster.Addr()
	if c.broker, err = c.startBroker(proto.RoleBroker); err != nil {
		return nil, err
	}
	c.stop.Add(c.closeNodes)
	for range cfg.Nodes {
		if _, err := c.AddNode(); err != nil {
			return nil, err
		}
	}
	if err := awaitNodes(cfg.Nodes, login, c.broker); err != nil {
		return nil, err
	}
	if err := c.serveOps(login); err != nil {
		return nil, err
	}
	if c.api, err = c.broker.API(apiListener, nil, -1, cfg.Logger); err != nil {
		return nil, process.FlagError{Flag: "--api", Err: err}
	}
	c.stop.Add(func() { c.api.Close(process.CloseTimeout) })
	return c, c.serveLogin(authListener, login)
}

// newCluster returns a cluster without members.
func newCluster(app node.App, cfg Config) *Cluster {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	c := &Cluster{
		app: func(string) node.App { return app }, cfg: cfg, port: cfg.NodePort, nodes: map[string]*devNode{},
		registry: process.NewRegistry(),
	}
	if p, ok := app.(PerNode); ok {
		c.app = p.ForNode
	}
	return c
}

func (c *Cluster) listen(flag, addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, process.FlagError{Flag: flag, Err: err}
	}
	c.stop.Add(func() { ln.Close() }) // in case that it is never served
	return ln, nil
}

// startBroker starts a member that places sessions.
func (c *Cluster) startBroker(role proto.Role) (*brokerserve.Broker, error) {
	b, err := brokerserve.Start(brokerserve.Options{
		PlacementFlags: c.cfg.PlacementFlags, QueueLimit: c.cfg.WaitingLimit,
		Role: role, Gossip: c.gossip(), Store: c.store, Signer: c.keys, TokenTTL: c.cfg.TokenTTL,
		Registry: process.Labelled(c.registry, role.String()), Logger: c.cfg.Logger,
	})
	if err == nil {
		c.stop.Add(b.Close)
	}
	return b, err
}

func (c *Cluster) gossip() cluster.Config {
	cfg := cluster.Config{Bind: "127.0.0.1:0", Label: "usher-dev"}
	if c.join != "" {
		cfg.Join = []string{c.join}
	}
	return cfg
}

func (c *Cluster) serveLogin(ln net.Listener, login *brokerserve.Broker) (err error) {
	o := authserve.Options{
		Listener: ln, WaitingRoom: c.cfg.WaitingRoom, Broker: login.Broker, Keys: c.keys, Registry: c.registry, Origins: []string{"*"},
		Logger: c.cfg.Logger, Providers: map[string]credential.Provider{"guest": credential.Guest{}},
	}
	if c.cfg.Wrap != nil {
		o.Wrap = func(h http.Handler) http.Handler { return c.cfg.Wrap(c, h) }
	}
	if c.auth, err = authserve.Start(o); err == nil {
		c.stop.Add(c.auth.Close)
	}
	return err
}

func (c *Cluster) serveOps(login *brokerserve.Broker) error {
	ln, err := c.listenOps()
	if err != nil {
		return process.FlagError{Flag: "--ops", Err: err}
	}
	c.ops = process.ServeOps(ln, c.registry, append(login.Checks(), c.running()[0].Checks()...), c.cfg.Logger)
	c.stop.Add(func() { c.ops.Close(process.CloseTimeout) })
	return nil
}

func (c *Cluster) listenOps() (net.Listener, error) {
	if c.cfg.Ops != "" {
		return process.Listen(c.cfg.Ops)
	}
	port := defaultOps
	return process.ListenFrom("127.0.0.1", &port)
}

// awaitNodes returns when every broker may send sessions to all n nodes.
func awaitNodes(n int, brokers ...*brokerserve.Broker) error {
	deadline := time.Now().Add(15 * time.Second)
	for _, b := range brokers {
		for eligible(b) < n {
			if time.Now().After(deadline) {
				return fmt.Errorf("%d of %d nodes can be given sessions after 15 s: gossip on loopback may be blocked", eligible(b), n)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

func eligible(b *brokerserve.Broker) int {
	n := 0
	for _, v := range b.Nodes() {
		if v.Eligible() {
			n++
		}
	}
	return n
}

// AuthAddr returns the address of the login API, host:port.
func (c *Cluster) AuthAddr() string { return c.auth.Addr() }

// APIAddr returns the address of the private API, host:port.
func (c *Cluster) APIAddr() string { return c.api.Addr() }

// OpsAddr returns the address of the ops port, host:port or unix:PATH.
func (c *Cluster) OpsAddr() string { return c.ops.Addr() }

// Nodes returns what the broker knows of the nodes.
func (c *Cluster) Nodes() []nodes.View { return c.broker.Nodes() }

// Close stops the cluster. Calls after the first wait for it.
func (c *Cluster) Close() {
	c.mu.Lock()
	c.closed = true // from now on no node is added
	c.mu.Unlock()
	c.closing.Do(func() { c.stop.Close() })
}

func opsURL(addr string) string {
	if strings.HasPrefix(addr, "unix:") {
		return addr
	}
	return "http://" + addr + "/metrics"
}
