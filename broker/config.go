package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Cluster sends commands to other members.
type Cluster interface {
	// Call has the member execute the command. It tries until it has an answer or
	// ctx ends.
	Call(ctx context.Context, to string, cmd proto.Command) (proto.CommandResult, error)
}

// Store is what a broker needs of a session.Store.
type Store interface {
	session.Directory
	session.Groups
	session.Queues
}

// Signer signs tokens.
type Signer interface {
	Sign(c proto.Claims) (string, error)
}

// MaxTokenTTL is the longest lifetime of a token that verifiers accept.
const MaxTokenTTL = 24 * time.Hour

// Config configures a Broker. Issuer, Store and Cluster are required; all other
// fields have a default.
type Config struct {
	// Issuer identifies this start of this process, in 1 to 64 bytes. It is the
	// iss of the tokens, and this member's id in the cluster: nodes report the
	// arrivals of this broker's sessions under it.
	Issuer string

	Store   Store
	Cluster Cluster
	Signer  Signer // nil: Assign and Reassign answer ErrNoSigner

	// Selector returns the policy for a pool, which picks the nodes. Default:
	// placement.Least.
	Selector func(pool string) placement.Selector
	// Random is the source of randomness of the policies. Only the Broker may use it
	// after New. Default: a source with a random seed.
	Random *rand.Rand

	// TokenTTL is the lifetime of a token: 1 s to 24 h, default 1 h.
	TokenTTL time.Duration
	// AssignTTL is how long a session waits for its client to attach after it was
	// assigned to a node. It should not be less than the nodes' resume window.
	// Default 60 s.
	AssignTTL time.Duration
	// GroupTTL is how long a group stays bound to its node after the last
	// assignment of one of its sessions, if one of them is alive. Default 12 h:
	// players may join a match late.
	GroupTTL time.Duration

	// Duplicates has the policy, by pool, for a login of a user who already has
	// sessions in the pool; "" is for the pools that have no entry. Default: the
	// old session ends.
	Duplicates map[string]Duplicates

	// Rebalance makes nodes that hold more than their fair share shed sessions.
	Rebalance bool

	// Probe reports whether clients can reach a node at the URL, and that it is
	// that node. The broker calls it when a client reports a node as unreachable.
	// A node that fails the probe gets no sessions until its next report, or for
	// 5 s. Nil: such nodes are not probed, and a dead node gets sessions until
	// its reports are overdue.
	Probe func(ctx context.Context, node, url string) error
	// Health configures periodic probes. It requires a Probe.
	Health Health

	// Queue configures how logins wait when every node is full (Enter).
	Queue Queue

	Now    func() time.Time // default time.Now
	Logger *slog.Logger     // default: no logs
	Hooks  Hooks            // default: none
}

const (
	maxIssuerBytes = 64
	// tombstoneSpare is how much longer than any of its tokens an ended session
	// is remembered: clocks differ, and verifiers allow for that.
	tombstoneSpare = 5 * time.Minute
)

func (c *Config) tombstoneTTL() time.Duration { return c.TokenTTL + tombstoneSpare }

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Issuer == "" || len(c.Issuer) > maxIssuerBytes:
		return c, fmt.Errorf("broker: Issuer has %d bytes, must have 1 to %d", len(c.Issuer), maxIssuerBytes)
	case c.Store == nil || c.Cluster == nil:
		return c, errors.New("broker: Store and Cluster are required")
	}
	c.TokenTTL = cmp.Or(c.TokenTTL, time.Hour)
	c.AssignTTL = cmp.Or(c.AssignTTL, time.Minute)
	c.GroupTTL = cmp.Or(c.GroupTTL, 12*time.Hour)
	switch {
	case c.TokenTTL < time.Second || c.TokenTTL > MaxTokenTTL:
		return c, fmt.Errorf("broker: TokenTTL is %v, must be 1s to %v", c.TokenTTL, MaxTokenTTL)
	case c.AssignTTL < 0 || c.GroupTTL < 0:
		return c, fmt.Errorf("broker: AssignTTL %v or GroupTTL %v is negative", c.AssignTTL, c.GroupTTL)
	}
	if c.Health.Interval > 0 && c.Probe == nil {
		return c, errors.New("broker: Health.Interval requires a Probe")
	}
	if c.Health.Interval < 0 || c.Health.Timeout < 0 || c.Health.Out < 0 || c.Health.In < 0 {
		return c, errors.New("broker: a field of Health is negative")
	}
	c.Health, c.Queue = c.Health.withDefaults(), c.Queue.withDefaults()
	if c.Random == nil {
		c.Random = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Hooks = c.Hooks.withDefaults()
	return c, nil
}
