package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/proto"
)

// nodeOptions are what a node needs of the process it runs in.
type nodeOptions struct {
	nodeFlags
	id        string
	listen    string
	listener  net.Listener // in place of listen, when bound already
	advertise string
	tls       tlsFlags
	limit     *limitFlags // of connections; nil for none
	gossip    cluster.Config
	keyFile   string // of gossip, to be followed; "" for none
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
	from    string // where the URL comes from
	stop    closers

	options  nodeOptions
	keysErr  func() error // whether the keys of tokens are known
	starting atomic.Pointer[error]
}

// Errors of a node that has not started yet.
var (
	errStarting = errors.New("starting")
	errLooking  = errors.New("the public address is not known yet")
)

// newNodeRole returns a node that is not started, but can be asked whether it
// is.
func newNodeRole(o nodeOptions) *nodeRole {
	r := &nodeRole{options: o, keysErr: func() error { return nil }}
	if k, ok := o.keys.(interface{ Err() error }); ok { // keys that are fetched
		r.keysErr = k.Err
	}
	r.starting.Store(&errStarting)
	return r
}

func startNode(ctx context.Context, o nodeOptions) (*nodeRole, error) {
	r := newNodeRole(o)
	return r, r.start(ctx)
}

// start binds, starts serving and joins the cluster, in this order: when others
// hear of the node it can be reached. It waits until the address of the node is
// known.
func (r *nodeRole) start(ctx context.Context) (err error) {
	o := r.options
	if err := o.check(); err != nil {
		return err
	}
	app, err := o.app()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			r.stop.close()
		}
	}()
	ln := o.listener
	if ln == nil {
		if ln, err = listenTCP(o.listen); err != nil {
			return usageError{"--listen", err}
		}
	}
	if o.limit != nil {
		if err := o.limit.check(); err != nil {
			ln.Close()
			return err
		}
		// A third more: those that are being handed over have two.
		ln = o.limit.limit(ln, o.MaxSessions+o.MaxSessions/3+64, o.registry)
	}
	plain := ln
	ln, secure, err := o.tls.secure(ln, o.registry, &r.stop, o.log)
	if err != nil {
		plain.Close()
		return err
	}
	if o.id, err = nodeID(o.id, ln.Addr()); err != nil {
		ln.Close()
		return err
	}
	r.id = o.id
	public, err := publish(o.advertise, o.id, ln.Addr(), secure)
	if err != nil {
		ln.Close()
		return err
	}
	r.node, err = node.New(node.Config{
		ID: o.id, App: app, Store: o.store,
		Verifier:    &token.Verifier{Keys: o.keys},
		MaxSessions: o.MaxSessions, ResumeWindow: o.ResumeWindow, PingInterval: o.PingInterval,
		Checkpoint: o.Checkpoint, Drain: o.plan(), Origins: o.Origins, Hosts: o.Hosts,
		Rates: o.rates(), DetachedBytes: orAny(o.MaxDetachedBytes), Logger: o.log, Registry: o.registry,
	})
	if err != nil {
		ln.Close()
		return err
	}
	handler, finds := r.node.Handler(), (*finder)(nil)
	if public.first != 0 {
		finds = newFinder(o.log)
		handler = finds.handler(handler)
	}
	r.http = serveOn(ln, handler, o.log)

	r.halt = runUntilStop(func(ctx context.Context) { _ = r.node.Run(ctx) })
	r.stop.add(r.halt)
	r.stop.add(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r.http.close(ctx)
	})

	r.url, r.from = public.url, public.why
	if finds != nil {
		r.starting.Store(&errLooking)
		if r.url, err = finds.find(ctx, public); err != nil {
			return fmt.Errorf("stopped before the address was known: %w", err)
		}
	}

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
		return usageError{"--gossip", err}
	}
	countGossip(o.registry, r.cluster.Health)
	r.stop.add(func() {
		if err := r.cluster.Leave(2 * time.Second); err != nil {
			o.log.Warn("could not leave the cluster in an orderly way", "node", o.id, "error", err)
		}
	})
	if o.keyFile != "" {
		r.stop.add(runUntilStop(func(ctx context.Context) { followKeys(ctx, o.keyFile, r.cluster, o.log) }))
	}
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
	r.starting.Store(nil)
	return nil
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

// checks are what makes the node ready. Once it is, the store, the gossip and the
// keys may fail without it being any the less: it serves those it has.
func (r *nodeRole) checks() []check {
	started := func(f func() error) func() error {
		return func() error {
			if err := r.starting.Load(); err != nil {
				return *err
			}
			return f()
		}
	}
	return []check{
		{name: "state", f: started(func() error {
			if s := r.node.State(); s == proto.StateDraining {
				return errors.New("draining")
			}
			return nil
		})},
		{name: "gossip", once: true, f: started(func() error { return joined(r.cluster) })},
		storeCheck(r.options.store),
		{name: "keys", once: true, f: r.keysErr},
	}
}

// drainRoutes have the node drained from the machine that it runs on, by whoever
// may reach its ops door: the hook that runs before a container stops, say.
func (r *nodeRole) drainRoutes() []route {
	after := func(do func()) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if err := r.starting.Load(); err != nil {
				writeJSON(w, http.StatusConflict, map[string]string{"error": (*err).Error()})
				return
			}
			do()
			writeJSON(w, http.StatusOK, map[string]any{"node": r.id, "drain": r.node.Draining()})
		}
	}
	return []route{
		{"GET /drain", after(func() {})},
		{"PUT /drain", after(func() { r.node.Drain(r.options.plan()) })},
		{"DELETE /drain", after(func() { r.node.Undrain() })},
	}
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
