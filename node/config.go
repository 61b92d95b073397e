package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Verifier checks tokens; token.Verifier is one. For a token that is good but
// for its expiry it returns the claims and token.ErrExpired, and for one that
// it cannot judge now token.ErrUnavailable.
type Verifier interface {
	Verify(ctx context.Context, token string) (proto.Claims, error)
}

// Config says what a node is. ID, App, Store and Verifier are required;
// everything else has a default.
type Config struct {
	ID       string // unique in the cluster; tokens name it
	App      App
	Store    session.Store
	Verifier Verifier

	// MaxSessions bounds the sessions held, attached and detached. Default 10,000.
	MaxSessions int
	// ResumeWindow is how long a detached session is kept. Default 60 s.
	ResumeWindow time.Duration
	// PingInterval is the time without a byte from the client after which the
	// node pings; after 2.5 of them the connection is given up. Default 15 s.
	PingInterval time.Duration
	// WriteTimeout is how long one write may wait for a slow client. Default 10 s.
	WriteTimeout time.Duration
	// StoreTimeout bounds one call of the store on behalf of a waiting client.
	// Default 800 ms.
	StoreTimeout time.Duration
	// RenewInterval is the time between two renewals of a session in the
	// store. Default 20 s.
	RenewInterval time.Duration
	// TombstoneTTL is how long the store remembers a session that ended here;
	// it must outlive every token. Default 65 min.
	TombstoneTTL time.Duration
	// Checkpoint has every session saved in the store, with its stream and, if
	// the App is a Mover, what the App knows, before what it received is
	// acknowledged and what it sends goes out. Then a node that dies at any moment
	// loses nothing; each message waits for the store, and while the store is away
	// nothing moves.
	Checkpoint bool
	// SnapshotInterval is how often what a Mover knows of a session is saved, if
	// messages came meanwhile, for the case that the node dies. Default 10 s;
	// negative for never. With Checkpoint it has no meaning.
	SnapshotInterval time.Duration
	// Drain is how a drain goes that another member orders.
	Drain DrainPlan
	// ShedRate bounds the sessions that are asked to leave per second for the
	// sake of balance. Default: 1 % of MaxSessions, at least 1.
	ShedRate float64
	// LoadPenalty says by what percentage the node is to get fewer sessions than its
	// capacity says: 0 when the application is well, 100 when it can take none; it
	// keeps those it has. It is called ten times a second and must not block. The
	// node adds what it sees itself: a process that does not keep up. Optional.
	LoadPenalty func() int
	// Limits bound what one session may hold.
	Limits Limits
	// Rates bound what one connection may send.
	Rates Rates
	// DetachedBytes bounds what is kept for all detached sessions together, in
	// bytes of payload. A detached session that is sent more loses its stream, as
	// with more than its own limit: ErrOverflow. Default 256 MiB; negative for any
	// number.
	DetachedBytes int
	// Origins lists the exact origins (scheme://host[:port]) of web pages that
	// may attach. Empty means any: the credential is a token, which another
	// page does not have, and not a cookie.
	Origins []string
	// Hosts lists the names (host, or host:port) by which clients may ask for this
	// node, as its URL has them. A host alone stands for any port. Empty means any.
	Hosts []string

	Logger   *slog.Logger          // default: slog.Default
	Registry prometheus.Registerer // default: a registry of its own
}

// Limits bound what one session may hold and send. They travel in the welcome.
type Limits struct {
	MessageBytes    int // of one message's payload. Default 65,536
	UnackedBytes    int // of payload sent and unconfirmed, each way. Default 262,144
	UnackedMessages int // the same in messages. Default 1,024
}

func (c *Config) setDefaults() error {
	switch {
	case c.ID == "" || len(c.ID) > proto.MaxNameBytes:
		return fmt.Errorf("node: id %q: must have 1 to %d bytes", c.ID, proto.MaxNameBytes)
	case c.App == nil, c.Store == nil, c.Verifier == nil:
		return errors.New("node: App, Store and Verifier are required")
	}
	setDefault(&c.MaxSessions, 10_000)
	setDefault(&c.ResumeWindow, time.Minute)
	setDefault(&c.PingInterval, 15*time.Second)
	setDefault(&c.WriteTimeout, 10*time.Second)
	setDefault(&c.StoreTimeout, 800*time.Millisecond)
	setDefault(&c.RenewInterval, 20*time.Second)
	setDefault(&c.TombstoneTTL, 65*time.Minute)
	setDefault(&c.SnapshotInterval, 10*time.Second)
	setDefault(&c.ShedRate, max(float64(c.MaxSessions)/100, 1))
	setDefault(&c.Limits.MessageBytes, 64<<10)
	setDefault(&c.Limits.UnackedBytes, 256<<10)
	setDefault(&c.Limits.UnackedMessages, 1024)
	setDefault(&c.DetachedBytes, 256<<20)
	c.Rates.setDefaults()
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.MaxSessions < 0 || c.ResumeWindow < 0 || c.PingInterval < 0 || c.WriteTimeout < 0 ||
		c.Limits.MessageBytes < 0 || c.Limits.UnackedMessages < 0 {
		return errors.New("node: a limit or interval is negative")
	}
	// These travel in the welcome, to clients that count in 32 bits.
	if c.PingInterval < time.Millisecond || max(c.PingInterval, c.ResumeWindow).Milliseconds() > proto.MaxSetting {
		return fmt.Errorf("node: a ping interval of %v and a resume window of %v: each must be under %v, the first at least 1ms",
			c.PingInterval, c.ResumeWindow, proto.MaxSetting*time.Millisecond)
	}
	if max(c.Limits.MessageBytes, c.Limits.UnackedBytes, c.Limits.UnackedMessages) > proto.MaxSetting {
		return fmt.Errorf("node: a limit is over %d", proto.MaxSetting)
	}
	if c.Limits.UnackedBytes < c.Limits.MessageBytes {
		return fmt.Errorf("node: UnackedBytes %d is less than MessageBytes %d: the largest message could never be sent",
			c.Limits.UnackedBytes, c.Limits.MessageBytes)
	}
	return nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
