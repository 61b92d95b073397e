package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/node/field"
	"github.com/usher-broker/usher/proto"
)

type nodeCmd struct {
	gossipFlags `embed:""`
	storeFlags  `embed:""`
	nodeFlags   `embed:""`

	ID        string `help:"Name of the node, unique in the cluster. {hostname} and {port} in it stand for the host name and the port it listens on." default:"{hostname}" placeholder:"NAME"`
	Listen    string `help:"Address clients attach to." default:":7000" placeholder:"ADDR"`
	Ops       string `help:"Address of the ops door, host:port or unix:PATH: /healthz, /readyz, /metrics, pprof. Keep it private." default:"127.0.0.1:0" placeholder:"ADDR"`
	Advertise string `help:"URL at which clients reach this node, such as wss://node-7.example.com:7000/v1/connect. Default: made from --listen, when that names one address." placeholder:"URL"`
	JWKS      string `name:"jwks" help:"Public keys that tokens are checked with: the URL of an auth's /.well-known/jwks.json, or a file." required:"" placeholder:"URL"`
}

// nodeFlags are what the nodes of «usher dev» take as well.
type nodeFlags struct {
	App          string        `help:"Application the node runs: echo, or field, the demo, which echoes what it does not know. Default: echo, and field for «usher dev»." enum:",echo,field" default:"" placeholder:"NAME"`
	Region       string        `help:"Region of the node; logins may prefer one." placeholder:"NAME"`
	Pool         string        `help:"Pool of the node; logins name one, or mean this." default:"default" placeholder:"NAME"`
	MaxSessions  int           `help:"Sessions the node may hold." default:"10000" placeholder:"N"`
	ResumeWindow time.Duration `help:"How long a session is kept after its connection was cut." default:"60s" placeholder:"TIME"`
	PingInterval time.Duration `help:"Silence after which a client is pinged; after 2.5 of it the connection is given up." default:"15s" placeholder:"TIME"`
	Origins      []string      `help:"Origins (scheme://host:port) of web pages that may attach. Default: any." placeholder:"ORIGIN"`
	Checkpoint   bool          `help:"Save every session in the store before anything it received is acknowledged and anything it sends goes out: a node that is killed loses nothing, and every message waits for the store."`
	DrainWindow  time.Duration `help:"Time over which a node that drains asks its clients to leave, evenly." default:"5s" placeholder:"TIME"`
	DrainRate    float64       `help:"Clients it asks per second at most." default:"500" placeholder:"N"`
	DrainTimeout time.Duration `help:"Time after which those that have not left are cut; they resume elsewhere." default:"25s" placeholder:"TIME"`
}

// plan is how a node drains.
func (f nodeFlags) plan() node.DrainPlan {
	return node.DrainPlan{Window: f.DrainWindow, Rate: f.DrainRate, Timeout: f.DrainTimeout}
}

// check refuses what node.New would, by the names of the flags.
func (f nodeFlags) check() error {
	const longest = proto.MaxSetting * time.Millisecond
	switch {
	case f.MaxSessions < 1 || int64(f.MaxSessions) > math.MaxUint32:
		return usageError{"--max-sessions", fmt.Errorf("%d: must be 1 to %d", f.MaxSessions, uint32(math.MaxUint32))}
	case f.ResumeWindow <= 0 || f.ResumeWindow > longest:
		return usageError{"--resume-window", fmt.Errorf("%v: must be over 0 and at most %v", f.ResumeWindow, longest)}
	case f.DrainWindow <= 0 || f.DrainWindow > time.Hour:
		return usageError{"--drain-window", fmt.Errorf("%v: must be over 0 and at most 1h", f.DrainWindow)}
	case f.DrainTimeout <= 0 || f.DrainTimeout > 24*time.Hour:
		return usageError{"--drain-timeout", fmt.Errorf("%v: must be over 0 and at most 24h", f.DrainTimeout)}
	case !(f.DrainRate > 0 && f.DrainRate <= 1e6):
		return usageError{"--drain-rate", fmt.Errorf("%v: must be over 0 and at most 1000000", f.DrainRate)}
	case f.PingInterval < time.Millisecond || f.PingInterval > longest:
		return usageError{"--ping-interval", fmt.Errorf("%v: must be 1ms to %v", f.PingInterval, longest)}
	}
	return nil
}

func (f nodeFlags) app() (node.App, error) {
	switch f.App {
	case "", "echo":
		return node.Echo{}, nil
	case "field":
		return &field.App{}, nil
	}
	return nil, usageError{"--app", fmt.Errorf("there is no application %q", f.App)}
}

func (c *nodeCmd) Run(ctx context.Context, e *env) error {
	var stop closers
	defer func() { stop.close() }()
	m, err := openMember(c.gossipFlags, c.storeFlags, &stop)
	if err != nil {
		return err
	}
	collectOften()
	keys, err := token.OpenJWKS(ctx, c.JWKS, e.log)
	if err != nil {
		return usageError{"--jwks", err}
	}
	stop.add(func() { keys.Close() })

	n, err := startNode(nodeOptions{
		nodeFlags: c.nodeFlags, id: c.ID, listen: c.Listen, advertise: c.Advertise,
		gossip: m.gossip, store: m.store, keys: keys, registry: m.registry, log: e.log,
	})
	if err != nil {
		return err
	}
	stop.add(n.close)
	ops, err := m.openOps(c.Ops, n.checks(), &stop, e.log)
	if err != nil {
		return err
	}
	e.log.Info("node runs", "node", n.id, "url", n.url, "listen", n.http.addr(), "gossip", n.cluster.Addr(), "ops", ops.addr(), "app", c.App)
	n.untilDrained(ctx, c.plan(), e)
	return nil
}

// drainedNotice is how long a node that was drained by order stays, empty, for
// whoever watches to see it.
const drainedNotice = 2 * time.Second

// untilDrained returns when the process is told to stop and the node has given
// its sessions away, or has done so by order. Told a second time, it is at once.
func (r *nodeRole) untilDrained(ctx context.Context, plan node.DrainPlan, e *env) {
	select {
	case <-r.node.Drained():
		time.Sleep(drainedNotice)
		return
	case <-ctx.Done():
	}
	again, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	e.log.Info("node leaves; its clients go elsewhere. A second signal cuts them at once", "node", r.id)
	r.node.Drain(plan)
	// Nobody is sent here any more once the others have heard of it, from the
	// reporter, which is still running. The door stays open until the end.
	time.Sleep(drainNotice)
	select {
	case <-r.node.Drained():
	case <-again.Done():
		e.log.Warn("cut short", "node", r.id)
	}
	if d := r.node.Draining(); d != nil {
		e.log.Info("node has drained", "node", r.id, "sessions", d.Total, "cut", d.Cut, "left", d.Remaining)
	}
}

// collectOften has the garbage of a process with nodes collected at half the
// usual growth: most of its heap is what idle sessions keep, and the room that
// the collector leaves itself is a part of what a session costs. GOGC, if set,
// stands.
func collectOften() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// nodeOptions are what a node needs of the process it runs in.
type nodeOptions struct {
	nodeFlags
	id        string
	listen    string
	listener  net.Listener // in place of listen, when bound already
	advertise string
	gossip    cluster.Config
	store     session.Store
	keys      token.Keys
	registry  prometheus.Registerer
	keep      bool // a drain by order leaves the node there
	log       *slog.Logger
}

// nodeRole is a running node.
type nodeRole struct {
	node    *node.Node
	cluster *cluster.Cluster
	http    *server
	halt    func() // ends node.Run
	id      string
	url     string
	store   session.Store
	keysErr func() error // whether the keys of tokens are known
	stop    closers
}

// startNode binds, starts serving and joins the cluster, in this order: when
// others hear of the node it can be reached.
func startNode(o nodeOptions) (_ *nodeRole, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	app, err := o.app()
	if err != nil {
		return nil, err
	}
	r := &nodeRole{store: o.store, keysErr: func() error { return nil }}
	if k, ok := o.keys.(interface{ Err() error }); ok { // keys that are fetched
		r.keysErr = k.Err
	}
	defer func() {
		if err != nil {
			r.stop.close()
		}
	}()
	ln := o.listener
	if ln == nil {
		if ln, err = net.Listen("tcp", o.listen); err != nil {
			return nil, usageError{"--listen", err}
		}
	}
	if err = r.address(&o, ln.Addr()); err != nil {
		ln.Close()
		return nil, err
	}
	r.node, err = node.New(node.Config{
		ID: o.id, App: app, Store: o.store,
		Verifier:    &token.Verifier{Keys: o.keys},
		MaxSessions: o.MaxSessions, ResumeWindow: o.ResumeWindow, PingInterval: o.PingInterval,
		Checkpoint: o.Checkpoint, Drain: o.plan(), Origins: o.Origins, Logger: o.log, Registry: o.registry,
	})
	if err != nil {
		ln.Close()
		return nil, err
	}
	r.http = serveOn(ln, r.node.Handler(), o.log)

	r.halt = runUntilStop(func(ctx context.Context) { _ = r.node.Run(ctx) })
	r.stop.add(r.halt)
	r.stop.add(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r.http.close(ctx)
	})

	cfg := o.gossip
	cfg.Logger = o.log
	cfg.Handle = r.node.Command
	if o.keep {
		cfg.Handle = keepDrained(cfg.Handle)
	}
	cfg.Self = proto.Peer{
		ID: o.id, Role: proto.RoleNode, State: r.node.State(), URL: r.url, Region: o.Region, Pool: o.Pool,
		Capacity: uint32(o.MaxSessions), Generation: newGeneration(), Version: versionString(),
	}
	if r.cluster, err = cluster.Join(context.Background(), cfg); err != nil {
		return nil, usageError{"--gossip", err}
	}
	countGossip(o.registry, r.cluster.Health)
	r.stop.add(func() {
		if err := r.cluster.Leave(2 * time.Second); err != nil {
			o.log.Warn("could not leave the cluster in an orderly way", "node", o.id, "error", err)
		}
	})
	r.stop.add(runUntilStop(func(ctx context.Context) { r.cluster.RunReporter(ctx, r.node) }))
	r.stop.add(func() {
		// What is still here is sent away, and so is whoever still comes: the door
		// stays open until then.
		if r.node.Draining() == nil {
			r.node.Drain(node.DrainPlan{})
			time.Sleep(drainNotice)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.node.Shutdown(ctx); err != nil {
			o.log.Warn("node did not end in time", "node", o.id, "error", err)
		}
	})
	return r, nil
}

// drainNotice is how long a node that ends waits for others to hear that it
// takes nobody any more. Reports are sent at once, so this is ample.
const drainNotice = 300 * time.Millisecond

func (r *nodeRole) close() { r.stop.close() }

// keepDrained has drains by order leave the node there, empty: its process has
// others.
func keepDrained(handle func(context.Context, string, proto.Command) proto.CommandResult) func(context.Context, string, proto.Command) proto.CommandResult {
	return func(ctx context.Context, from string, cmd proto.Command) proto.CommandResult {
		if cmd.Drain != nil {
			drain := *cmd.Drain
			drain.Keep = true
			cmd.Drain = &drain
		}
		return handle(ctx, from, cmd)
	}
}

func (r *nodeRole) checks() []check {
	return []check{
		{"state", func() error {
			if s := r.node.State(); s == proto.StateDraining {
				return errors.New("draining")
			}
			return nil
		}},
		gossipCheck(r.cluster),
		storeCheck(r.store),
		{"keys", r.keysErr},
	}
}

// address finds out by what name and at what URL a node that listens at the
// address is known.
func (r *nodeRole) address(o *nodeOptions, at net.Addr) (err error) {
	if o.id, err = nodeID(o.id, at); err != nil {
		return err
	}
	r.id = o.id
	r.url, err = connectURL(o.advertise, at)
	return err
}

// nodeID fills in the id of a node that listens at the address.
func nodeID(id string, at net.Addr) (string, error) {
	host, err := os.Hostname()
	if err != nil && strings.Contains(id, "{hostname}") {
		return "", usageError{"--id", err}
	}
	_, port, err := net.SplitHostPort(at.String())
	if err != nil {
		return "", err
	}
	id = strings.NewReplacer("{hostname}", host, "{port}", port).Replace(id)
	if id == "" || len(id) > proto.MaxNameBytes || strings.ContainsAny(id, "{}") {
		return "", usageError{"--id", fmt.Errorf("%q: must have 1 to %d bytes, and of what can stand in braces {hostname} and {port}", id, proto.MaxNameBytes)}
	}
	return id, nil
}

// connectURL returns the URL that clients are given. An address that a client
// could not reach is never guessed.
func connectURL(advertise string, bound net.Addr) (string, error) {
	if advertise == "" {
		host, _, err := net.SplitHostPort(bound.String())
		if err != nil {
			return "", err
		}
		if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
			return "", usageError{"--advertise", fmt.Errorf("is required when --listen names no address: this node listens on %s and cannot know at which of its addresses clients reach it", bound)}
		}
		return "ws://" + bound.String() + proto.ConnectPath, nil
	}
	u, err := url.Parse(advertise)
	switch {
	case err != nil:
		return "", usageError{"--advertise", err}
	case u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "":
		return "", usageError{"--advertise", fmt.Errorf("%q is not a URL such as wss://node-7.example.com:7000%s", advertise, proto.ConnectPath)}
	case u.Path == "" || u.Path == "/":
		u.Path = proto.ConnectPath
	}
	return u.String(), nil
}
