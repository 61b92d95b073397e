package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/node/field"
	"github.com/usher-broker/usher/proto"
)

type nodeCmd struct {
	gossipFlags `embed:""`
	storeFlags  `embed:""`
	nodeFlags   `embed:""`
	tlsFlags    `embed:""`
	limitFlags  `embed:""`

	ID        string `help:"Name of the node, unique in the cluster. {hostname} and {port} in it stand for the host name and the port it listens on." default:"{hostname}" placeholder:"NAME"`
	Listen    string `help:"Address clients attach to. Of a range of ports, as in :7000-7099, the first that is free." default:":7000" placeholder:"ADDR"`
	Ops       string `help:"Address of the ops door, host:port or unix:PATH: /healthz, /readyz, /metrics, pprof. Keep it private." default:"127.0.0.1:0" placeholder:"ADDR"`
	NodeKey   string `help:"File of the key that signs what this node says of itself («usher keys node» makes it), for auths and brokers with --node-keys." type:"path" placeholder:"FILE"`
	Advertise string `help:"URL at which clients reach this node, such as wss://{node}.rt.example.com:{port}/v1/connect; {node}, {ip}, {ip-dashed}, {port} and {hostname} are filled in. A range in place of the port, as in wss://example.com:7000-7099, is the ports that lead to this node and others; it finds out which one does. Default: made from --listen, when that names one address." placeholder:"URL"`
	JWKS      string `name:"jwks" help:"Public keys that tokens are checked with: the URL of an auth's /.well-known/jwks.json, or a file." required:"" placeholder:"URL"`
}

// nodeFlags are what the nodes of «usher dev» take as well.
type nodeFlags struct {
	App              string        `help:"Application the node runs: echo; fan, which sends every message to all sessions of the node, for «usher bench fanout»; or field, the demo, which echoes what it does not know. Default: echo, and field for «usher dev»." enum:",echo,fan,field" default:"" placeholder:"NAME"`
	Region           string        `help:"Region of the node; logins may prefer one." placeholder:"NAME"`
	Pool             string        `help:"Pool of the node; logins name one, or mean this." default:"default" placeholder:"NAME"`
	MaxSessions      int           `help:"Sessions the node may hold." default:"10000" placeholder:"N"`
	ResumeWindow     time.Duration `help:"How long a session is kept after its connection was cut." default:"60s" placeholder:"TIME"`
	PingInterval     time.Duration `help:"Silence after which a client is pinged; after 2.5 of it the connection is given up." default:"15s" placeholder:"TIME"`
	Origins          []string      `help:"Origins (scheme://host:port) of web pages that may attach. Default: any." placeholder:"ORIGIN"`
	Hosts            []string      `help:"Names (host, or host:port) that clients may ask for, those of the node's URL. Default: any." placeholder:"HOST"`
	MaxMessageRate   int           `help:"Messages per second that one client may send; one that sends more is read more slowly. 0: any number." default:"2000" placeholder:"N"`
	MaxByteRate      int           `help:"The same in bytes." default:"4194304" placeholder:"N"`
	MaxFrameRate     int           `help:"The same in WebSocket frames: fragments count." default:"4000" placeholder:"N"`
	MaxPingRate      int           `help:"The same in WebSocket pings and pongs." default:"50" placeholder:"N"`
	MaxDetachedBytes int           `help:"Bytes kept for all detached sessions together; a session that is sent more is reset. 0: any number." default:"268435456" placeholder:"N"`
	Checkpoint       bool          `help:"Save every session in the store before anything it received is acknowledged and anything it sends goes out: a node that is killed loses nothing, and every message waits for the store."`
	DrainWindow      time.Duration `help:"Time over which a node that drains asks its clients to leave, evenly." default:"5s" placeholder:"TIME"`
	DrainRate        float64       `help:"Clients it asks per second at most." default:"500" placeholder:"N"`
	DrainTimeout     time.Duration `help:"Time after which those that have not left are cut; they resume elsewhere." default:"25s" placeholder:"TIME"`
}

// plan is how a node drains.
func (f nodeFlags) plan() node.DrainPlan {
	return node.DrainPlan{Window: f.DrainWindow, Rate: f.DrainRate, Timeout: f.DrainTimeout}
}

// rates are those of node.Config, where 0 stands for the default.
func (f nodeFlags) rates() node.Rates {
	return node.Rates{Bytes: orAny(f.MaxByteRate), Messages: orAny(f.MaxMessageRate), Frames: orAny(f.MaxFrameRate), Pings: orAny(f.MaxPingRate)}
}

func orAny(n int) int {
	if n == 0 {
		return -1
	}
	return n
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
	for flag, n := range map[string]int{
		"--max-byte-rate": f.MaxByteRate, "--max-message-rate": f.MaxMessageRate, "--max-frame-rate": f.MaxFrameRate,
		"--max-ping-rate": f.MaxPingRate, "--max-detached-bytes": f.MaxDetachedBytes,
	} {
		if n < 0 {
			return usageError{flag, fmt.Errorf("%d: must be 0 or more", n)}
		}
	}
	return nil
}

func (f nodeFlags) app() (node.App, error) {
	switch f.App {
	case "", "echo":
		return node.Echo{}, nil
	case "fan":
		return &node.Fan{}, nil
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
	tuneCollector(ctx)
	keys, err := token.OpenJWKS(ctx, c.JWKS, e.log)
	if err != nil {
		return usageError{"--jwks", err}
	}
	stop.add(func() { keys.Close() })

	if c.NodeKey != "" {
		if m.gossip.Sign, err = readNodeKey(c.NodeKey); err != nil {
			return usageError{"--node-key", err}
		}
	}
	n := newNodeRole(nodeOptions{
		nodeFlags: c.nodeFlags, id: c.ID, listen: c.Listen, advertise: c.Advertise, tls: c.tlsFlags, limit: &c.limitFlags,
		gossip: m.gossip, keyFile: m.keyFile, store: m.store, keys: keys, registry: m.registry, log: e.log,
	})
	ops, err := m.openOps(c.Ops, n.checks(), &stop, e.log, n.drainRoutes()...)
	if err != nil {
		return err
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	stop.add(n.close)
	e.log.Info("node runs", "node", n.id, "url", n.url, "url_from", n.from, "listen", n.http.addr(), "gossip", n.cluster.Addr(), "ops", ops.addr(), "app", cmp.Or(c.App, "echo"))
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
