package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/console"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

type brokerCmd struct {
	gossipFlags  `embed:""`
	storeFlags   `embed:""`
	signingFlags `embed:""`
	placingFlags `embed:""`

	SigningKey string `help:"File of the keys that sign tokens, the same as auth's. Without it this door opens no sessions, and does all the rest." type:"path" placeholder:"FILE"`
	tlsFlags   `embed:""`

	TLSClientCA string `name:"tls-client-ca" help:"File of the certificates that vouch for clients of the private API: each must show one, beside its key." type:"path" placeholder:"FILE"`
	APIRate     int    `name:"api-rate" help:"Requests per second that the holder of one key may make. 0: any number." default:"1000" placeholder:"N"`

	Listen  string `help:"Address of the private API." default:"127.0.0.1:8081" placeholder:"ADDR"`
	Ops     string `help:"Address of the ops door, host:port or unix:PATH: /healthz, /readyz, /metrics, pprof. Keep it private." default:"127.0.0.1:0" placeholder:"ADDR"`
	APIKeys string `name:"api-keys" help:"File of the keys of the private API («usher keys api» makes its lines). Read again when it changes. Without it the door serves this machine only, and asks for no key." type:"path" placeholder:"FILE"`
}

func (c *brokerCmd) Run(ctx context.Context, e *env) error {
	tuneCollector(ctx)
	var stop closers
	defer func() { stop.close() }()
	m, err := openMember(c.gossipFlags, c.storeFlags, &stop)
	if err != nil {
		return err
	}
	signer, err := c.signer(&stop, e)
	if err != nil {
		return err
	}
	apiKeys, err := c.apiKeys(&stop, e)
	if err != nil {
		return err
	}
	b, err := startBroker(brokerOptions{
		placingFlags: c.placingFlags,
		role:         proto.RoleBroker, gossip: m.gossip, keyFile: m.keyFile, store: m.store, signer: signer, tokenTTL: c.TokenTTL, registry: m.registry, log: e.log,
	})
	if err != nil {
		return err
	}
	stop.add(b.close)
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return usageError{"--listen", err}
	}
	if err := c.requireClients(c.TLSClientCA); err != nil {
		ln.Close()
		return err
	}
	if ln, _, err = c.secure(ln, m.registry, &stop, e.log); err != nil {
		return err
	}
	api, err := startConsole(ln, b, apiKeys, orAny(c.APIRate), e.log)
	if err != nil {
		return usageError{"--api-keys", err}
	}
	stop.add(func() { api.close(context.Background()) })
	ops, err := m.openOps(c.Ops, b.checks(), &stop, e.log)
	if err != nil {
		return err
	}
	e.log.Info("broker runs", "issuer", b.issuer, "listen", api.addr(), "gossip", b.cluster.Addr(), "ops", ops.addr())
	waitDone(ctx)
	return nil
}

func (c *brokerCmd) signer(stop *closers, e *env) (broker.Signer, error) {
	if c.SigningKey == "" {
		e.log.Warn("no --signing-key: this door opens no sessions for backends")
		return nil, nil
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	keys, err := token.OpenKeySet(c.SigningKey, c.KeyOverlap, e.log)
	if err != nil {
		return nil, usageError{"--signing-key", err}
	}
	stop.add(runUntilStop(keys.Run))
	return keys, nil
}

func (c *brokerCmd) apiKeys(stop *closers, e *env) (*console.Keys, error) {
	if c.APIKeys == "" {
		return nil, nil
	}
	keys, err := console.OpenKeys(c.APIKeys, e.log)
	if err != nil {
		return nil, usageError{"--api-keys", err}
	}
	stop.add(runUntilStop(keys.Run))
	return keys, nil
}

// startConsole serves the private API; without keys it is open to this machine
// alone.
func startConsole(ln net.Listener, b *brokerRole, keys *console.Keys, rate int, log *slog.Logger) (*server, error) {
	api, err := console.New(console.Config{Broker: b.broker, Keys: keys, Rate: rate, Listen: ln.Addr(), Logger: log})
	if err != nil {
		ln.Close()
		return nil, err
	}
	s := serveOn(ln, api.Handler(), log)
	s.http.RegisterOnShutdown(api.Close)
	return s, nil
}

// brokerOptions are what a member that places needs of the process it runs in.
type brokerOptions struct {
	placingFlags
	role     proto.Role // auth or broker
	gossip   cluster.Config
	keyFile  string // of gossip, to be followed; "" for none
	store    session.Store
	signer   broker.Signer // nil: opens no sessions
	tokenTTL time.Duration

	waitingLimit int // logins in a line; 0: the default
	registry     prometheus.Registerer
	log          *slog.Logger
}

// placingFlags are the flags of every process that places sessions.
type placingFlags struct {
	DuplicateLogins []string `help:"What becomes of a login of a user who has a session: replace ends the old one, reject refuses the new one, allow:N ends the oldest beyond N, allow none. POOL=POLICY is for one pool. The same on every auth and broker." default:"replace" placeholder:"POLICY"`
	Placement       []string `help:"Which node a session is given: least, power-of-two, round-robin, weighted-round-robin, random or hash. POOL=POLICY is for one pool. The same on every auth and broker." default:"least" placeholder:"POLICY"`
	Rebalance       bool     `help:"Have nodes that hold more than the others ask idle sessions to go there. The same on every auth and broker."`

	probeFlags `embed:""`
	trustFlags `embed:""`
}

// brokerRole is a member of the cluster that decides where sessions go: the
// inner half of both the login door and the private API.
type brokerRole struct {
	broker  *broker.Broker
	cluster *cluster.Cluster
	issuer  string
	store   session.Store
	stop    closers
}

func startBroker(o brokerOptions) (_ *brokerRole, err error) {
	r := &brokerRole{issuer: instanceID(o.role.String()), store: o.store}
	defer func() {
		if err != nil {
			r.stop.close()
		}
	}()
	if o.tokenTTL < time.Second || o.tokenTTL > broker.MaxTokenTTL {
		return nil, usageError{"--token-ttl", fmt.Errorf("%v: must be 1s to %v", o.tokenTTL, broker.MaxTokenTTL)}
	}
	duplicates, err := broker.ParseDuplicatesByPool(o.DuplicateLogins)
	if err != nil {
		return nil, usageError{"--duplicate-logins", err}
	}
	policy, err := placement.ParsePolicies(o.Placement)
	if err != nil {
		return nil, usageError{"--placement", err}
	}
	health, err := o.health()
	if err != nil {
		return nil, err
	}
	believes, err := o.open()
	if err != nil {
		return nil, err
	}
	var look func(ctx context.Context, node, url string) error
	if o.Probe != "none" {
		probes, err := o.prober()
		if err != nil {
			return nil, err
		}
		look = probes.probe
	}
	via := &lateCluster{}
	now := time.Now()
	r.broker, err = broker.New(broker.Config{
		Issuer: r.issuer, Store: o.store, Signer: o.signer, Cluster: via,
		Placement: placement.NewTable(placement.Config{Issuer: r.issuer, Policy: policy, Probed: health.Interval > 0},
			rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), now),
		Duplicates: duplicates, Rebalance: o.Rebalance,
		TokenTTL: o.tokenTTL, Logger: o.log, Probe: look, Health: health, Queue: broker.Queue{Limit: o.waitingLimit}, Hooks: brokerHooks(o.registry),
	})
	if err != nil {
		return nil, err
	}
	r.stop.add(r.broker.Close)
	o.registry.MustRegister(&nodeCollector{r.broker.Nodes})
	r.stop.add(runUntilStop(func(ctx context.Context) { _ = r.broker.Run(ctx) }))

	cfg := o.gossip
	cfg.Logger = o.log
	cfg.Events = cluster.Events{Update: r.broker.Update, Leave: r.broker.Leave, Report: r.broker.Report}
	if believes != nil {
		cfg.Accept = believes.accept
	}
	cfg.Self = proto.Peer{ID: r.issuer, Role: o.role, State: proto.StateReady, Generation: newGeneration(), Version: versionString()}
	if r.cluster, err = cluster.Join(context.Background(), cfg); err != nil {
		return nil, usageError{"--gossip", err}
	}
	via.c.Store(r.cluster)
	countGossip(o.registry, r.cluster.Health)
	r.stop.add(func() { _ = r.cluster.Leave(2 * time.Second) })
	if o.keyFile != "" {
		r.stop.add(runUntilStop(func(ctx context.Context) { followKeys(ctx, o.keyFile, r.cluster, o.log) }))
	}
	if o.NodeKeys != "" {
		r.stop.add(runUntilStop(func(ctx context.Context) { believes.follow(ctx, r.cluster, o.log) }))
	}
	return r, nil
}

func (r *brokerRole) close() { r.stop.close() }

func (r *brokerRole) checks() []check {
	return []check{
		storeCheck(r.store),
		{name: "gossip", once: true, f: func() error { return joined(r.cluster) }},
	}
}

// lateCluster is the cluster that a broker commands through: it comes to be
// after the broker, which hears its events.
type lateCluster struct {
	c atomic.Pointer[cluster.Cluster]
}

var errNotJoined = errors.New("the cluster is not joined yet")

func (l *lateCluster) Call(ctx context.Context, to string, cmd proto.Command) (proto.CommandResult, error) {
	c := l.c.Load()
	if c == nil {
		return proto.CommandResult{}, errNotJoined
	}
	return c.Call(ctx, to, cmd)
}

// storeCheck is met once the store has answered. If it fails later nothing is
// won by taking processes out of service: they all share it, and each tells
// clients better than nobody would when to come back.
func storeCheck(store session.Store) check {
	return check{name: "store", once: true, f: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return store.Ping(ctx)
	}}
}

// joined returns nil once the member has joined another, or was told to join
// none.
func joined(c *cluster.Cluster) error {
	if h := c.Health(); !h.Joined {
		return fmt.Errorf("no other member reached yet: %v", h.LastError)
	}
	return nil
}

// runUntilStop starts f and returns what stops it and waits for it.
func runUntilStop(f func(context.Context)) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	return func() { cancel(); <-done }
}
