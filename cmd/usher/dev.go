package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/usher-broker/usher/auth/credential"
	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

// devCmd runs the same roles that run in production, over real gossip on
// loopback, in one process and with the sessions in memory.
type devCmd struct {
	nodeFlags    `embed:""`
	placingFlags `embed:""`
	waitingFlags `embed:""`

	Nodes    int           `help:"How many nodes." default:"3" placeholder:"N"`
	Auth     string        `help:"Address of the login door." default:"127.0.0.1:8080" placeholder:"ADDR"`
	API      string        `name:"api" help:"Address of the private API; loopback only, because it asks for no key here." default:"127.0.0.1:8081" placeholder:"ADDR"`
	NodePort int           `help:"First port the nodes try; one that is taken is passed over." default:"7001" placeholder:"PORT"`
	Ops      string        `help:"Address of the ops door, host:port or unix:PATH. Default: 127.0.0.1:9090, or the next free port." placeholder:"ADDR"`
	TokenTTL time.Duration `name:"token-ttl" help:"Lifetime of a token." default:"1h" placeholder:"TIME"`
}

func (c *devCmd) Run(ctx context.Context, e *env) error {
	if c.Nodes < 1 || c.Nodes > 64 {
		return usageError{"--nodes", fmt.Errorf("%d: must be 1 to 64", c.Nodes)}
	}
	if err := c.waitingFlags.check(); err != nil {
		return err
	}
	tuneCollector(ctx)
	var stop closers
	defer func() { stop.close() }()
	d, err := c.start(&stop, e)
	if err != nil {
		return err
	}
	d.tell(e.out)
	waitDone(ctx)
	fmt.Fprintln(e.out, "\nStopping; the sessions were in memory and end here.")
	return nil
}

// devCluster is a running cluster in one process.
type devCluster struct {
	auth  *authRole
	api   *server
	ops   *server
	stage *stage
}

func (c *devCmd) start(stop *closers, e *env) (*devCluster, error) {
	reg := newRegistry()
	store := memory.New(time.Now)
	stop.add(func() { store.Close() })
	keys, err := token.NewKeySet()
	if err != nil {
		return nil, err
	}
	d := &devCluster{}
	// The doors are bound before anything starts: a port that is taken, the
	// likeliest mistake, is told at once.
	doors, err := listenAll([]string{"--auth", "--api"}, []string{c.Auth, c.API})
	if err != nil {
		return nil, err
	}
	gossip := cluster.Config{Bind: "127.0.0.1:0", Label: "usher-dev"}
	opts := brokerOptions{
		placingFlags: c.placingFlags, waitingLimit: c.WaitingLimit,
		role: proto.RoleAuth, gossip: gossip, store: store, signer: keys, tokenTTL: c.TokenTTL,
		registry: labelled(reg, "auth"), log: e.log,
	}
	door, err := startBroker(opts)
	if err != nil {
		return nil, err
	}
	stop.add(door.close)
	gossip.Join = []string{door.cluster.Addr()}
	show := &atomic.Pointer[stage]{}
	d.auth, err = startAuth(authOptions{
		listener: doors[0], beside: demo(show), waiting: c.WaitingRoom, broker: door, keys: keys, registry: reg, origins: []string{"*"}, log: e.log,
		providers: map[string]credential.Provider{"guest": credential.Guest{}},
	})
	if err != nil {
		return nil, err
	}
	stop.add(d.auth.close)

	opts.role, opts.gossip, opts.registry = proto.RoleBroker, gossip, labelled(reg, "broker")
	private, err := startBroker(opts)
	if err != nil {
		return nil, err
	}
	stop.add(private.close)
	if d.api, err = startConsole(doors[1], private, nil, -1, e.log); err != nil {
		return nil, usageError{"--api", err}
	}
	stop.add(func() { d.api.close(context.Background()) })

	d.stage = &stage{
		broker: private.broker, port: c.NodePort,
		options: nodeOptions{nodeFlags: c.nodeFlags, gossip: gossip, store: store, keys: keys, keep: true, log: e.log},
		labels:  func(id string) prometheus.Registerer { return labelled(reg, id) },
	}
	if c.App == "" {
		d.stage.options.App = "field"
	}
	stop.add(d.stage.close)
	for range c.Nodes {
		if _, err := d.stage.add(); err != nil {
			return nil, err
		}
	}
	show.Store(d.stage)
	ops, err := c.listenOps()
	if err != nil {
		return nil, usageError{"--ops", err}
	}
	d.ops = serveOpsOn(ops, reg, append(door.checks(), d.stage.checks()...), e.log)
	stop.add(func() { d.ops.close(context.Background()) })
	return d, awaitNodes(door, private, c.Nodes)
}

// awaitNodes returns when both doors know of all nodes, so that the first
// login finds them.
func awaitNodes(a, b *brokerRole, n int) error {
	deadline := time.Now().Add(15 * time.Second)
	for ready(a) < n || ready(b) < n {
		if time.Now().After(deadline) {
			return fmt.Errorf("the nodes did not find each other by gossip on loopback within 15 s")
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func ready(r *brokerRole) int {
	n := 0
	for _, v := range r.broker.Nodes() {
		if v.Eligible {
			n++
		}
	}
	return n
}

func listenAll(flags, addrs []string) ([]net.Listener, error) {
	var list []net.Listener
	for i, addr := range addrs {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			for _, l := range list {
				l.Close()
			}
			return nil, usageError{flags[i], err}
		}
		list = append(list, ln)
	}
	return list, nil
}

func (c *devCmd) listenOps() (net.Listener, error) {
	if c.Ops != "" {
		return listen(c.Ops)
	}
	port := 9090
	return listenFrom("127.0.0.1", &port)
}

// listenFrom binds the first free port from *port on and sets *port to the one
// after it.
func listenFrom(host string, port *int) (net.Listener, error) {
	const tries = 1000
	var err error
	for range tries {
		var ln net.Listener
		ln, err = listenPlainly(net.JoinHostPort(host, strconv.Itoa(*port)))
		if *port > 0 {
			*port++
		}
		if err == nil {
			return ln, nil
		}
		if *port > 65535 {
			break
		}
	}
	return nil, fmt.Errorf("no free port: %w", err)
}

func opsURL(addr string) string {
	if strings.HasPrefix(addr, "unix:") {
		return addr
	}
	return "http://" + addr + "/metrics"
}

func (d *devCluster) tell(w io.Writer) {
	fmt.Fprintf(w, "Usher %s, a whole cluster in one process.\n", versionString())
	fmt.Fprintf(w, "Sessions are kept in memory: they end with this process. Several processes share them through Redis.\n\n")
	fmt.Fprintf(w, "  demo         http://%s/demo/   (open it in two tabs, and kill a node)\n", d.auth.http.addr())
	fmt.Fprintf(w, "  dashboard    http://%s/\n", d.api.addr())
	fmt.Fprintf(w, "  login door   http://%s/v1/login   (anybody gets in, under any name: method «guest»)\n", d.auth.http.addr())
	fmt.Fprintf(w, "  private API  http://%s/v1/nodes   (no key needed from this machine)\n", d.api.addr())
	fmt.Fprintf(w, "  ops door     %s\n", opsURL(d.ops.addr()))
	for _, n := range d.stage.all() {
		fmt.Fprintf(w, "  %-12s %s\n", n.id, n.url)
	}
	fmt.Fprintf(w, "\nTry, in another terminal:\n\n")
	try := os.Args[0] + " try" // as it was called: it need not be on the PATH
	if addr := d.auth.http.addr(); addr != "127.0.0.1:8080" {
		try += " --auth http://" + addr
	}
	fmt.Fprintf(w, "  %s\n", try)
	fmt.Fprintf(w, "  curl -s http://%s/v1/login -d '{\"method\":\"guest\",\"credentials\":{\"name\":\"ada\"}}'\n", d.auth.http.addr())
	fmt.Fprintf(w, "  curl -s http://%s/v1/nodes\n\nCtrl-C stops it.\n", d.api.addr())
}
