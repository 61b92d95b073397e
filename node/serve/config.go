package serve

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"time"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/proto"
)

// Config is the configuration of a node. Each field down to NodeKey is a flag of
// Main as well: the tags give its meaning and its default. Run uses the default
// for a field that is zero; in fields where the flag value 0 means no limit, use
// a negative value.
//
// Redis (or RedisFile, or Store) and JWKS (or Keys) are required. Advertise is
// required when Listen names no address.
type Config struct {
	process.GossipFlags `embed:""`
	process.StoreFlags  `embed:""`
	NodeFlags           `embed:""`
	process.TLSFlags    `embed:""`
	process.LimitFlags  `embed:""`

	ID        string `help:"Name of the node, unique in the cluster. {hostname} and {port} stand for the host name and the port that the node listens on." default:"{hostname}" placeholder:"NAME"`
	Listen    string `help:"Address that clients attach to. For a range of ports, as in :7000-7099, the first free one." default:":7000" placeholder:"ADDR"`
	Advertise string `help:"URL at which clients reach this node, such as wss://{node}.rt.example.com:{port}/v1/connect; {node}, {ip}, {ip-dashed}, {port} and {hostname} are replaced. With a range in place of the port, as in wss://example.com:7000-7099, the node finds out which of these ports leads to it. Default: made from --listen if that names one address." placeholder:"URL"`
	Ops       string `help:"Address of the ops port, host:port or unix:PATH: /healthz, /readyz, /metrics, /drain, pprof. Keep it private." default:"127.0.0.1:0" placeholder:"ADDR"`
	JWKS      string `name:"jwks" help:"Public keys that verify tokens: the URL of an auth's /.well-known/jwks.json, or a file. Required." placeholder:"URL"`
	NodeKey   string `help:"File of the key that signs this node's gossip record (\"usher keys node\" makes one), for auths and brokers with --node-keys." type:"path" placeholder:"FILE"`

	// Logger is slog.Default if nil.
	Logger *slog.Logger `kong:"-"`
	// Gatherer has metrics that the ops port serves beside those of the node and the
	// process, such as the game's own. Optional.
	Gatherer prometheus.Gatherer `kong:"-"`
	// Metrics, if not nil, takes the metrics of the node; the ops port does not serve
	// them then. It must not have metrics of another node, unless it adds a label.
	Metrics prometheus.Registerer `kong:"-"`
	// Listener replaces Listen. The node closes it.
	Listener net.Listener `kong:"-"`
	// Store replaces Redis. The caller closes it.
	Store session.Store `kong:"-"`
	// Keys replaces JWKS.
	Keys token.Keys `kong:"-"`
	// LoadPenalty is that of node.Config. Optional.
	LoadPenalty func() int `kong:"-"`
	// KeepDrained has a node that was drained by a command of another member stay,
	// without sessions, until that is undone.
	KeepDrained bool `kong:"-"`
}

// NodeFlags are the flags that the nodes of a development cluster have as well.
type NodeFlags struct {
	Region           string        `help:"Region of the node. Logins may prefer a region." placeholder:"NAME"`
	Pool             string        `help:"Pool of the node. A login names a pool, or uses \"default\"." default:"default" placeholder:"NAME"`
	MaxSessions      int           `help:"Sessions that the node may hold." default:"10000" placeholder:"N"`
	ResumeWindow     time.Duration `help:"Time that a session is kept after its connection was cut." default:"60s" placeholder:"TIME"`
	PingInterval     time.Duration `help:"Time without data from a client after which the node pings it; after 2.5 times that it closes the connection." default:"15s" placeholder:"TIME"`
	Origins          []string      `help:"Origins (scheme://host:port) of web pages that may attach. Default: any." placeholder:"ORIGIN"`
	Hosts            []string      `help:"Host names (host, or host:port) that clients may use, as in the node's URL. Default: any." placeholder:"HOST"`
	MaxMessageRate   int           `help:"Messages per second from one client. If a client sends more, the node reads it no faster than this. 0: no limit." default:"2000" placeholder:"N"`
	MaxByteRate      int           `help:"Bytes per second from one client, in the same way." default:"4194304" placeholder:"N"`
	MaxFrameRate     int           `help:"WebSocket frames per second from one client, in the same way. Fragments count." default:"4000" placeholder:"N"`
	MaxPingRate      int           `help:"WebSocket pings and pongs per second from one client, in the same way." default:"50" placeholder:"N"`
	MaxMessageBytes  int           `help:"Bytes of one message, at most." default:"65536" placeholder:"N"`
	MaxUnackedBytes  int           `help:"Bytes of messages that one session may have unacknowledged, each way. At least --max-message-bytes." default:"262144" placeholder:"N"`
	MaxUnackedCount  int           `name:"max-unacked-messages" help:"Messages that one session may have unacknowledged, each way." default:"1024" placeholder:"N"`
	MaxDetachedBytes int           `help:"Bytes kept for all detached sessions together. A message beyond this limit is not kept: the stream of its session ends, and the session is reset. 0: no limit." default:"268435456" placeholder:"N"`
	Checkpoint       bool          `help:"Save each session in the store before the node acknowledges what it received and sends what the application sent. A killed node then loses nothing, and each message waits for the store."`
	SnapshotInterval time.Duration `help:"Time between two snapshots of a session of a node.Mover, for the case that the node is killed." default:"10s" placeholder:"TIME"`
	DrainWindow      time.Duration `help:"Time over which a draining node asks its clients to leave, spread evenly." default:"5s" placeholder:"TIME"`
	DrainRate        float64       `help:"Clients that a draining node asks to leave per second, at most." default:"500" placeholder:"N"`
	DrainTimeout     time.Duration `help:"Time after which a draining node closes the remaining connections. Their clients resume on another node." default:"25s" placeholder:"TIME"`
}

// drainPlan is how the node drains when no other plan is given.
func (f NodeFlags) drainPlan() node.DrainPlan {
	return node.DrainPlan{Window: f.DrainWindow, Rate: f.DrainRate, Timeout: f.DrainTimeout}
}

func (f NodeFlags) limits() node.Limits {
	return node.Limits{MessageBytes: f.MaxMessageBytes, UnackedBytes: f.MaxUnackedBytes, UnackedMessages: f.MaxUnackedCount}
}

// rates are those of node.Config, where 0 means the default.
func (f NodeFlags) rates() node.Rates {
	return node.Rates{Bytes: orUnlimited(f.MaxByteRate), Messages: orUnlimited(f.MaxMessageRate), Frames: orUnlimited(f.MaxFrameRate), Pings: orUnlimited(f.MaxPingRate)}
}

func orUnlimited(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// check refuses what node.New would refuse, by the names of the flags.
func (f NodeFlags) check() error {
	const longest = proto.MaxSetting * time.Millisecond
	fail := func(flag, format string, args ...any) error {
		return process.FlagError{Flag: flag, Err: fmt.Errorf(format, args...)}
	}
	switch {
	case f.MaxSessions < 1 || int64(f.MaxSessions) > math.MaxUint32:
		return fail("--max-sessions", "%d: must be 1 to %d", f.MaxSessions, uint32(math.MaxUint32))
	case f.ResumeWindow <= 0 || f.ResumeWindow > longest:
		return fail("--resume-window", "%v: must be over 0 and at most %v", f.ResumeWindow, longest)
	case f.MaxMessageBytes < 1 || f.MaxMessageBytes > proto.MaxSetting:
		return fail("--max-message-bytes", "%d: must be 1 to %d", f.MaxMessageBytes, proto.MaxSetting)
	case f.MaxUnackedBytes < f.MaxMessageBytes || f.MaxUnackedBytes > proto.MaxSetting:
		return fail("--max-unacked-bytes", "%d: must be %d, which is --max-message-bytes, to %d", f.MaxUnackedBytes, f.MaxMessageBytes, proto.MaxSetting)
	case f.MaxUnackedCount < 1 || f.MaxUnackedCount > proto.MaxSetting:
		return fail("--max-unacked-messages", "%d: must be 1 to %d", f.MaxUnackedCount, proto.MaxSetting)
	case f.SnapshotInterval < time.Millisecond || f.SnapshotInterval > 24*time.Hour:
		return fail("--snapshot-interval", "%v: must be 1ms to 24h", f.SnapshotInterval)
	case f.DrainWindow <= 0 || f.DrainWindow > time.Hour:
		return fail("--drain-window", "%v: must be over 0 and at most 1h", f.DrainWindow)
	case f.DrainTimeout <= 0 || f.DrainTimeout > 24*time.Hour:
		return fail("--drain-timeout", "%v: must be over 0 and at most 24h", f.DrainTimeout)
	case !(f.DrainRate > 0 && f.DrainRate <= 1e6):
		return fail("--drain-rate", "%v: must be over 0 and at most 1000000", f.DrainRate)
	case f.PingInterval < time.Millisecond || f.PingInterval > longest:
		return fail("--ping-interval", "%v: must be 1ms to %v", f.PingInterval, longest)
	}
	for flag, n := range map[string]int{
		"--max-byte-rate": f.MaxByteRate, "--max-message-rate": f.MaxMessageRate, "--max-frame-rate": f.MaxFrameRate,
		"--max-ping-rate": f.MaxPingRate, "--max-detached-bytes": f.MaxDetachedBytes,
	} {
		if n < 0 {
			return fail(flag, "%d: must be 0 or more", n)
		}
	}
	return nil
}

// check refuses a configuration that cannot run.
func (c *Config) check() error {
	if c.JWKS == "" && c.Keys == nil {
		return process.FlagError{Flag: "--jwks", Err: errors.New("is required: the URL of an auth's /.well-known/jwks.json, or a file")}
	}
	return errors.Join(c.NodeFlags.check(), c.LimitFlags.Check())
}

// setDefaults sets the fields that are zero to the defaults of the flags, and those
// that are negative for no limit to the flag value 0.
func (c *Config) setDefaults() error {
	if err := kong.ApplyDefaults(c); err != nil {
		return fmt.Errorf("node/serve: %w", err)
	}
	for _, n := range []*int{&c.MaxMessageRate, &c.MaxByteRate, &c.MaxFrameRate, &c.MaxPingRate, &c.MaxDetachedBytes, &c.MaxConnectionsPerAddress} {
		*n = max(*n, 0)
	}
	return nil
}
