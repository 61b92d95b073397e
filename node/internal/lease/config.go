package lease

import (
	"context"
	"log/slog"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// Store is what a Keeper needs of a session.Store.
type Store interface {
	Get(ctx context.Context, id string) (session.Record, error)
	Renew(ctx context.Context, records []session.Record, ttls []time.Duration) []error
	Save(ctx context.Context, list []session.Saved) []error
	EndAll(ctx context.Context, list []session.Ending, ttl time.Duration) []error
	Fenced(ctx context.Context, node string) (string, error)
	Ping(ctx context.Context) error
}

// Config configures a Keeper. Fields without a default must be set.
type Config struct {
	Node     string // the id of this node
	Instance string // identifies this start of the node
	Store    Store
	// StoreTimeout limits one call of the store. A batch of renewals may take five
	// times as long: no client waits for it.
	StoreTimeout time.Duration
	// RenewInterval is the time between two renewals of a lease.
	RenewInterval time.Duration
	// TombstoneTTL is how long the store remembers a session that ended here.
	TombstoneTTL time.Duration
	// Tick is the time between two rounds of renewals, and the longest time until
	// the store knows of a change. Default and maximum: a second, or a quarter of
	// RenewInterval if that is less.
	Tick    time.Duration
	Logger  *slog.Logger // default: none
	Metrics Metrics
}

// Metrics are called for each event that is counted. Each may be nil. They must not
// block.
type Metrics struct {
	RenewFailed      func() // the store did not accept a renewal
	StoreLost        func() // the store has lost records of leases that are held here
	CheckpointFailed func() // the store did not accept a checkpoint
	Stalled          func() // the process did not run for too long
}

// tick returns Tick within its bounds.
func (c *Config) tick() time.Duration {
	longest := min(time.Second, c.RenewInterval/4)
	if c.Tick <= 0 {
		return longest
	}
	return min(c.Tick, longest)
}

// setDefaults replaces what may be left out.
func (c *Config) setDefaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for _, f := range []*func(){&c.Metrics.RenewFailed, &c.Metrics.StoreLost, &c.Metrics.CheckpointFailed, &c.Metrics.Stalled} {
		if *f == nil {
			*f = func() {}
		}
	}
}
