package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/broker/placement"
)

// Broker assigns sessions to nodes. Its methods may be called concurrently.
type Broker struct {
	cfg   Config
	log   *slog.Logger
	store Store
	hooks Hooks

	mu      sync.Mutex // protects nodes, picker, ticked and placers
	nodes   *nodes.Table
	picker  *placement.Picker
	ticked  time.Time       // time of the last tick of the picker
	placers map[string]bool // ids of the members that place sessions, this one included

	commands commands
	probes   *probes
	queues   queueLengths
	pace     *pace
}

// New returns a broker that knows no nodes. The caller passes the events of the
// cluster to Update, Leave and Report, calls Run in a goroutine, and calls Close
// when it is done.
func New(cfg Config) (*Broker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	pace := &pace{wake: make(chan struct{}, 1)}
	table := nodes.New(nodes.Config{Probes: cfg.Health.probes()}, cfg.Now())
	return &Broker{
		cfg: cfg, log: cfg.Logger, store: cfg.Store, hooks: cfg.Hooks,
		nodes: table, picker: placement.NewPicker(placement.Config{Selector: cfg.Selector}, table, cfg.Random),
		placers:  map[string]bool{cfg.Issuer: true},
		commands: newCommands(cfg, pace), probes: newProbes(), pace: pace,
	}, nil
}

// Close cancels the commands and probes that are under way and waits until they
// have ended.
func (b *Broker) Close() {
	b.commands.close()
	b.probes.close()
}

// Prove records the number of a proof of possession, which is valid once. The
// errors are those of session.Store.
func (b *Broker) Prove(ctx context.Context, sid string, proof uint64) error {
	return b.store.Prove(ctx, sid, proof)
}
