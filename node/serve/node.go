package serve

import (
	"cmp"
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
	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/proto"
)

// Node is a node as part of a process. Run and Main use it; a program that runs
// several nodes, or that needs the node itself, uses it directly.
type Node struct {
	// Set by Start.
	ID      string
	URL     string // at which clients reach the node
	Node    *node.Node
	Cluster *cluster.Cluster

	app       node.App
	cfg       Config
	gatherer  prometheus.Gatherer // of the metrics of the process and the node
	http      *process.Server
	urlSource string
	keysErr   func() error // why the keys of tokens are not known, or nil
	halt      func()       // ends Node.Run
	stop      process.Closers
	starting  atomic.Pointer[error] // why the node has not started; nil when it has
}

// Reasons why a node has not started yet.
var (
	errStarting = errors.New("starting")
	errNoURL    = errors.New("the public address is not known yet")
)

// New returns a node that is not started. Zero fields of cfg are values, not
// defaults.
func New(app node.App, cfg Config) *Node {
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	own := process.NewRegistry()
	if cfg.Metrics == nil {
		cfg.Metrics = own
	}
	gatherer := prometheus.Gatherers{own}
	if cfg.Gatherer != nil {
		gatherer = append(gatherer, cfg.Gatherer)
	}
	n := &Node{app: app, cfg: cfg, gatherer: gatherer, keysErr: func() error { return errStarting }}
	n.starting.Store(&errStarting)
	return n
}

// Start binds the listener, serves it and joins the cluster, in this order: the
// node can be reached when others learn of it. With a range of ports in Advertise,
// Start waits until the port is known or ctx ends. On an error it has closed the
// listener and everything else.
func (n *Node) Start(ctx context.Context) (err error) {
	defer func() {
		if err == nil {
			return
		}
		if n.Node != nil { // clients may have attached: their sessions are stored
			ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
			defer cancel()
			_ = n.Node.Shutdown(ctx)
		}
		n.stop.Close()
	}()
	ln := n.cfg.Listener
	if ln != nil {
		n.stop.Add(func() { ln.Close() })
	}
	if err := n.cfg.check(); err != nil {
		return err
	}
	gossip, err := n.cfg.GossipFlags.Config()
	if err != nil {
		return err
	}
	if n.cfg.NodeKey != "" {
		if gossip.Sign, err = process.ReadNodeKey(n.cfg.NodeKey); err != nil {
			return process.FlagError{Flag: "--node-key", Err: err}
		}
	}
	if err := n.open(ctx); err != nil {
		return err
	}
	if ln == nil {
		if ln, err = process.ListenTCP(n.cfg.Listen); err != nil {
			return process.FlagError{Flag: "--listen", Err: err}
		}
		n.stop.Add(func() { ln.Close() })
	}
	public, discovery, err := n.serve(ln)
	if err != nil {
		return err
	}
	n.URL, n.urlSource = public.url, public.source
	if discovery != nil {
		n.starting.Store(&errNoURL)
		if n.URL, err = discovery.discover(ctx, public); err != nil {
			return fmt.Errorf("stopped before the public address was known: %w", err)
		}
	}
	if err := n.join(gossip); err != nil {
		return err
	}
	n.starting.Store(nil)
	return nil
}

// open opens the store and the keys, unless the caller has set them.
func (n *Node) open(ctx context.Context) error {
	if n.cfg.Store == nil {
		store, err := n.cfg.OpenStore(n.cfg.Metrics)
		if err != nil {
			return err
		}
		n.cfg.Store = store
		n.stop.Add(func() { store.Close() })
	}
	if n.cfg.Keys == nil {
		// Close ends the fetches, not the end of the start.
		keys, err := token.OpenJWKS(context.WithoutCancel(ctx), n.cfg.JWKS, n.cfg.Logger)
		if err != nil {
			return process.FlagError{Flag: "--jwks", Err: err}
		}
		n.cfg.Keys = keys
		n.stop.Add(func() { keys.Close() })
	}
	n.keysErr = func() error { return nil }
	if k, ok := n.cfg.Keys.(interface{ Err() error }); ok { // keys that are fetched
		n.keysErr = k.Err
	}
	return nil
}

// serve makes the node, runs it and serves its handler on the listener.
func (n *Node) serve(plain net.Listener) (publicURL, *portDiscovery, error) {
	cfg := &n.cfg
	// A third more connections than sessions: a client that moves has two.
	ln := cfg.Limit(plain, cfg.MaxSessions+cfg.MaxSessions/3+64, cfg.Metrics)
	ln, secure, err := cfg.Secure(ln, cfg.Metrics, &n.stop, cfg.Logger)
	if err != nil {
		return publicURL{}, nil, err
	}
	if n.ID, err = nodeID(cfg.ID, ln.Addr()); err != nil {
		return publicURL{}, nil, err
	}
	public, err := publicURLOf(cfg.Advertise, n.ID, ln.Addr(), secure)
	if err != nil {
		return publicURL{}, nil, err
	}
	n.Node, err = node.New(node.Config{
		ID: n.ID, App: n.app, Store: cfg.Store,
		Verifier:    &token.Verifier{Keys: cfg.Keys},
		MaxSessions: cfg.MaxSessions, ResumeWindow: cfg.ResumeWindow, PingInterval: cfg.PingInterval,
		Checkpoint: cfg.Checkpoint, Drain: cfg.drainPlan(), Origins: cfg.Origins, Hosts: cfg.Hosts,
		Limits: cfg.limits(), SnapshotInterval: cfg.SnapshotInterval, LoadPenalty: cfg.LoadPenalty,
		Rates: cfg.rates(), DetachedBytes: orUnlimited(cfg.MaxDetachedBytes), Logger: cfg.Logger, Registry: cfg.Metrics,
	})
	if err != nil {
		return publicURL{}, nil, err
	}
	handler, discovery := n.Node.Handler(), (*portDiscovery)(nil)
	if public.first != 0 {
		discovery = newPortDiscovery(cfg.Logger)
		handler = discovery.handler(handler)
	}
	n.halt = process.Start(func(ctx context.Context) { _ = n.Node.Run(ctx) })
	n.stop.Add(n.halt)
	<-n.Node.Running()
	n.http = process.Serve(ln, handler, cfg.Logger)
	n.stop.Add(func() { n.http.Close(shutdownTimeout) })
	return public, discovery, nil
}

// join joins the cluster and reports the node's load to it.
func (n *Node) join(gossip cluster.Config) (err error) {
	gossip.Handle = n.Node.Command
	if n.cfg.KeepDrained {
		gossip.Handle = keepDrained(gossip.Handle)
	}
	gossip.Self = proto.Peer{
		ID: n.ID, Role: proto.RoleNode, State: n.Node.State(), URL: n.URL, Region: n.cfg.Region, Pool: n.cfg.Pool,
		Capacity: uint32(n.cfg.MaxSessions),
	}
	if n.Cluster, err = process.Join(gossip, n.cfg.GossipKeyFile, n.cfg.Metrics, n.cfg.Logger, &n.stop); err != nil {
		return err
	}
	n.stop.Add(process.Start(func(ctx context.Context) { n.Cluster.RunReporter(ctx, n.Node) }))
	n.stop.Add(n.shutdown)
	return nil
}

const (
	// drainNotice is the time that others have to learn that the node takes no new
	// sessions. The node reports that at once, so it is ample.
	drainNotice = 300 * time.Millisecond
	// shutdownTimeout bounds each step of the end: storing the sessions, and closing
	// the HTTP server.
	shutdownTimeout = 10 * time.Second
)

// Drain starts the last drain of the node, as the flags say: nothing cancels it. It
// returns when the other members know that the node takes no new sessions;
// Node.Drained is closed when the drain has ended.
func (n *Node) Drain() error {
	plan := n.cfg.drainPlan()
	plan.Final = true
	if err := n.Node.Drain(plan); err != nil {
		return err
	}
	time.Sleep(drainNotice)
	return nil
}

// shutdown stores the remaining sessions for other nodes. The listener stays open
// meanwhile: the node sends clients that still connect to another node.
func (n *Node) shutdown() {
	if n.Node.Draining() == nil {
		if err := n.Drain(); err != nil {
			n.cfg.Logger.Warn("node stops without a drain", "node", n.ID, "error", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := n.Node.Shutdown(ctx); err != nil {
		n.cfg.Logger.Warn("node did not stop in time", "node", n.ID, "timeout", shutdownTimeout, "error", err)
	}
}

// Close stops a node that Start has started. Its sessions are stored, and resume
// on other nodes.
func (n *Node) Close() { n.stop.Close() }

// Kill ends the node as kill -9 ends a process, for tests and demonstrations: the
// cluster is not informed, and no session is stored. The caller breaks the
// connections, by closing those of cfg.Listener.
func (n *Node) Kill() {
	_ = n.Cluster.Close()
	n.halt()
}

// Checks are the conditions under which the node is ready. Once it is, the store,
// the gossip and the keys may fail and it stays ready: it serves the sessions it
// holds.
func (n *Node) Checks() []process.Check {
	started := func(f func() error) func() error {
		return func() error {
			if err := n.starting.Load(); err != nil {
				return *err
			}
			return f()
		}
	}
	return []process.Check{
		{Name: "state", F: started(func() error {
			if n.Node.State() == proto.StateDraining {
				return errors.New("draining")
			}
			return nil
		})},
		{Name: "gossip", Once: true, F: started(func() error { return process.GossipCheck(n.Cluster).F() })},
		{Name: "store", Once: true, F: started(func() error { return process.StoreCheck(n.cfg.Store).F() })},
		{Name: "keys", Once: true, F: started(func() error { return n.keysErr() })},
	}
}

// drainRoutes let a process on this machine drain the node by the ops port, such
// as the hook that runs before a container stops.
func (n *Node) drainRoutes() []process.Route {
	answer := func(do func() error) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			var err error
			if starting := n.starting.Load(); starting != nil {
				err = *starting
			} else {
				err = do()
			}
			if err != nil {
				httpapi.WriteJSONStatus(w, http.StatusConflict, map[string]string{"error": err.Error()})
				return
			}
			httpapi.WriteJSON(w, map[string]any{"node": n.ID, "drain": n.Node.Draining()})
		}
	}
	return []process.Route{
		{Pattern: "GET /drain", Handler: answer(func() error { return nil })},
		{Pattern: "PUT /drain", Handler: answer(func() error { return n.Node.Drain(n.cfg.drainPlan()) })},
		{Pattern: "DELETE /drain", Handler: answer(func() error { return n.Node.Undrain() })},
	}
}

// keepDrained makes drains that other members command keep the node. Its process
// has other nodes.
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

// nodeID replaces the names in braces in the id of a node that listens at the
// address.
func nodeID(id string, at net.Addr) (string, error) {
	host, err := os.Hostname()
	if err != nil && strings.Contains(id, "{hostname}") {
		return "", process.FlagError{Flag: "--id", Err: err}
	}
	_, port, err := net.SplitHostPort(at.String())
	if err != nil {
		return "", err
	}
	id = strings.NewReplacer("{hostname}", host, "{port}", port).Replace(id)
	if id == "" || len(id) > proto.MaxNameBytes || strings.ContainsAny(id, "{}") {
		return "", process.FlagError{Flag: "--id", Err: fmt.Errorf("%q: must have 1 to %d bytes; the names in braces are {hostname} and {port}", id, proto.MaxNameBytes)}
	}
	return id, nil
}
