package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Cluster carries commands to other members.
type Cluster interface {
	// Call has the member carry the command out, and tries until it has an
	// answer or ctx ends.
	Call(ctx context.Context, to string, cmd proto.Command) (proto.CommandResult, error)
}

// Signer makes tokens.
type Signer interface {
	Sign(c proto.Claims) (string, error)
}

// MaxTokenTTL is the longest lifetime of a token, which is what verifiers
// allow.
const MaxTokenTTL = 24 * time.Hour

// Config says what a Broker is made of. Issuer, Store, Cluster and Placement
// are required; everything else has a default.
type Config struct {
	// Issuer names this start of this process, in 1 to 64 bytes. It is the iss
	// of the tokens, and the id under which the cluster knows this member: by
	// it nodes tell the broker which of its sessions have arrived.
	Issuer string

	Store   session.Store
	Cluster Cluster
	Signer  Signer // nil: Assign and Reassign answer ErrNoSigner

	// Placement is the table of the nodes. It knows none yet, and from New on the
	// Broker alone uses it.
	Placement *placement.Table

	// TokenTTL is how long a token is good for: 1 s to 24 h, default 1 h.
	TokenTTL time.Duration
	// AssignTTL is how long a session waits for its client to attach after it
	// was given to a node. It should be no less than the nodes' resume window.
	// Default 60 s.
	AssignTTL time.Duration
	// GroupTTL is how long a group stays bound to its node after the last of
	// its sessions was given one, if one of them is alive. Default 12 h: a match
	// may be joined late.
	GroupTTL time.Duration

	// Duplicates says, by pool, what becomes of a login of a user who has sessions
	// there already; "" is for the pools that are not named. Default: the old
	// session ends.
	Duplicates map[string]Duplicates

	// Rebalance has nodes that hold more than the others give sessions away.
	Rebalance bool

	// Probe reports whether clients can reach a node at the URL, which must be
	// that node's. The broker asks when a client says that it cannot: a node that
	// fails gets no sessions until it reports again, or for 5 s. Nil: it is not
	// asked, and a node that died gets sessions until its reports are missing.
	Probe func(ctx context.Context, node, url string) error
	// Health has the broker ask without being told. It takes a Probe, and a
	// Placement with Config.Probed.
	Health Health

	// Line has logins wait when every node is full (Enter).
	Queue Queue

	Now    func() time.Time // default time.Now
	Logger *slog.Logger     // default: no logs
	Hooks  Hooks            // default: nothing is counted
}

const (
	maxIssuerBytes = 64
	// tombstoneSpare is how much longer than any token of it a session that is
	// over is remembered: clocks differ, and verifiers allow for that.
	tombstoneSpare = 5 * time.Minute
)

func (c *Config) tombstoneTTL() time.Duration { return c.TokenTTL + tombstoneSpare }

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Issuer == "" || len(c.Issuer) > maxIssuerBytes:
		return c, fmt.Errorf("broker: an issuer of %d bytes, not 1 to %d", len(c.Issuer), maxIssuerBytes)
	case c.Store == nil || c.Cluster == nil || c.Placement == nil:
		return c, errors.New("broker: Store, Cluster and Placement are required")
	}
	c.TokenTTL = cmp.Or(c.TokenTTL, time.Hour)
	c.AssignTTL = cmp.Or(c.AssignTTL, time.Minute)
	c.GroupTTL = cmp.Or(c.GroupTTL, 12*time.Hour)
	switch {
	case c.TokenTTL < time.Second || c.TokenTTL > MaxTokenTTL:
		return c, fmt.Errorf("broker: a token lifetime of %v, not 1s to %v", c.TokenTTL, MaxTokenTTL)
	case c.AssignTTL < 0 || c.GroupTTL < 0:
		return c, errors.New("broker: a negative lifetime")
	}
	if c.Health.Interval > 0 && c.Probe == nil {
		return c, errors.New("broker: Health takes a Probe")
	}
	if c.Health.Interval < 0 || c.Health.Timeout < 0 || c.Health.Out < 0 || c.Health.In < 0 {
		return c, errors.New("broker: a negative time or number in Health")
	}
	c.Health, c.Queue = c.Health.withDefaults(), c.Queue.withDefaults()
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Hooks = c.Hooks.withDefaults()
	return c, nil
}
