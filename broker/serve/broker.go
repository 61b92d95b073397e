package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// PlacementFlags say where sessions go. They must be the same on every auth and
// broker.
type PlacementFlags struct {
	DuplicateLogins []string `help:"What happens to the login of a user who has a session: replace ends the old session, reject refuses the login, allow:N ends the oldest sessions over N, allow ends none. POOL=POLICY applies to one pool. Must be the same on every auth and broker." default:"replace" placeholder:"POLICY"`
	Placement       []string `help:"How a node is chosen for a session: least, round-robin, weighted-round-robin, random or hash. POOL=POLICY applies to one pool. Must be the same on every auth and broker." default:"least" placeholder:"POLICY"`
	Rebalance       bool     `help:"Move idle sessions from nodes that hold more than their share to others. Must be the same on every auth and broker."`

	ProbeFlags `embed:""`
	TrustFlags `embed:""`
}

// Store is what a broker in a process needs of a session.Store.
type Store interface {
	broker.Store
	session.Pinger
}

// Options are what a broker needs. All but GossipKeyFile, Signer and QueueLimit
// are required.
type Options struct {
	PlacementFlags
	Role          proto.Role // RoleAuth or RoleBroker
	Gossip        cluster.Config
	GossipKeyFile string // to be followed; "" for none
	Store         Store
	Signer        broker.Signer // nil: the broker opens no sessions
	TokenTTL      time.Duration
	QueueLimit    int // logins in a queue of the waiting room; 0: the default
	Registry      prometheus.Registerer
	Logger        *slog.Logger
}

// Broker is a running broker that is a member of the cluster.
type Broker struct {
	*broker.Broker
	Cluster *cluster.Cluster
	Issuer  string // of its tokens; unique to this start

	store session.Pinger
	stop  process.Closers
}

// Start starts a broker. The caller closes it.
func Start(o Options) (_ *Broker, err error) {
	b := &Broker{Issuer: process.InstanceID(o.Role.String()), store: o.Store}
	defer func() {
		if err != nil {
			b.stop.Close()
		}
	}()
	if o.TokenTTL < time.Second || o.TokenTTL > broker.MaxTokenTTL {
		return nil, process.FlagError{Flag: "--token-ttl", Err: fmt.Errorf("%v: must be 1s to %v", o.TokenTTL, broker.MaxTokenTTL)}
	}
	duplicates, err := broker.ParseDuplicatesByPool(o.DuplicateLogins)
	if err != nil {
		return nil, process.FlagError{Flag: "--duplicate-logins", Err: err}
	}
	selector, err := placement.ParsePolicies(o.Placement)
	if err != nil {
		return nil, process.FlagError{Flag: "--placement", Err: err}
	}
	health, err := o.health()
	if err != nil {
		return nil, err
	}
	trust, err := o.open()
	if err != nil {
		return nil, err
	}
	probe, err := o.probe()
	if err != nil {
		return nil, err
	}
	calls := &lateCluster{}
	b.Broker, err = broker.New(broker.Config{
		Issuer: b.Issuer, Store: o.Store, Signer: o.Signer, Cluster: calls, Selector: selector,
		Duplicates: duplicates, Rebalance: o.Rebalance,
		TokenTTL: o.TokenTTL, Logger: o.Logger, Probe: probe, Health: health, Queue: broker.Queue{Limit: o.QueueLimit}, Hooks: hooks(o.Registry),
	})
	if err != nil {
		return nil, err
	}
	b.stop.Add(b.Broker.Close)
	o.Registry.MustRegister(&nodeCollector{b.Nodes})
	b.stop.Add(process.Start(func(ctx context.Context) { _ = b.Run(ctx) }))

	cfg := o.Gossip
	cfg.Events = cluster.Events{Update: b.Update, Leave: b.Leave, Report: b.Report}
	if trust != nil {
		cfg.Accept = trust.accept
	}
	cfg.Self = proto.Peer{ID: b.Issuer, Role: o.Role, State: proto.StateReady}
	if b.Cluster, err = process.Join(cfg, o.GossipKeyFile, o.Registry, o.Logger, &b.stop); err != nil {
		return nil, err
	}
	calls.c.Store(b.Cluster)
	if o.NodeKeys != "" {
		b.stop.Add(process.Start(func(ctx context.Context) { trust.follow(ctx, b.Cluster, o.Logger) }))
	}
	return b, nil
}

// Close leaves the cluster and stops the broker.
func (b *Broker) Close() { b.stop.Close() }

// Checks are the conditions under which the process is ready.
func (b *Broker) Checks() []process.Check {
	return []process.Check{process.StoreCheck(b.store), process.GossipCheck(b.Cluster)}
}

// lateCluster carries the broker's commands to the nodes. The broker is made
// before the cluster is joined, and gets no commands to send before that.
type lateCluster struct {
	c atomic.Pointer[cluster.Cluster]
}

var errNotJoined = errors.New("this process has not joined the cluster yet")

func (l *lateCluster) Call(ctx context.Context, to string, cmd proto.Command) (proto.CommandResult, error) {
	c := l.c.Load()
	if c == nil {
		return proto.CommandResult{}, errNotJoined
	}
	return c.Call(ctx, to, cmd)
}
