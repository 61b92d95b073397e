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

// Verifier checks the tokens of clients. token.Verifier implements it. Verify returns
// the claims of a valid token. For a token that is valid except that it has expired,
// it returns the claims and token.ErrExpired. If it cannot check the token now, it
// returns token.ErrUnavailable.
type Verifier interface {
	Verify(ctx context.Context, token string) (proto.Claims, error)
}

// Config configures a Node. ID, App, Store and Verifier are required; every other
// field has a default.
type Config struct {
	ID       string // unique in the cluster; tokens name it
	App      App
	Store    session.Leases
	Verifier Verifier

	// MaxSessions limits the number of sessions held, attached and detached. Default
	// 10,000.
	MaxSessions int
	// ResumeWindow is how long a detached session is kept. Default 60 s.
	ResumeWindow time.Duration
	// PingInterval is how long a client may send nothing before the node pings it.
	// After 2.5 intervals the node closes the connection. Default 15 s.
	PingInterval time.Duration
	// WriteTimeout is how long one write may wait for a slow client. Default 10 s.
	WriteTimeout time.Duration
	// StoreTimeout limits one call of the store while a client waits for it. Default
	// 800 ms.
	StoreTimeout time.Duration
	// RenewInterval is the time between two renewals of a session's lease in the
	// store. Default 20 s.
	RenewInterval time.Duration
	// TombstoneTTL is how long the store remembers a session that ended here. It must
	// be longer than the lifetime of any token. Default 65 min.
	TombstoneTTL time.Duration
	// Checkpoint persists every session in the store before the node acknowledges
	// what it received and before the node writes what the App sent. A checkpoint
	// holds the stream and, if App is a Mover, the App's snapshot. A node that dies
	// at any moment then loses no message. The price: each message waits for the
	// store, and no message passes while the store is unavailable.
	Checkpoint bool
	// SnapshotInterval is the time between two stored snapshots of a session, if App
	// is a Mover and messages have arrived since the last one. The next node restores
	// the snapshot if this node dies. It counts in full seconds. Default 10 s;
	// negative: never. It has no effect if Checkpoint is set.
	SnapshotInterval time.Duration
	// Drain is the plan for a drain that another member orders.
	Drain DrainPlan
	// ShedRate limits how many sessions per second are asked to leave for a
	// rebalance. Default: 1 % of MaxSessions, at least 1.
	ShedRate float64
	// LoadPenalty returns the percentage by which the node is to get fewer new
	// sessions than its capacity allows: 0 if the application is well, 100 if it can
	// take none. Sessions that the node holds stay. The node calls it ten times a
	// second, or once a second while it holds no sessions; it must not block. The node uses the higher of this value and its own
	// penalty, for a process that falls behind. Optional.
	LoadPenalty func() int
	// Limits limit what one session may hold.
	Limits Limits
	// Rates limit what one connection may send.
	Rates Rates
	// DetachedBytes limits the payload, in bytes, that is kept for all detached
	// sessions together. A send to a detached session that would exceed it ends the
	// session's stream, with ErrOverflow, like a send over the session's own limit.
	// Default 256 MiB; negative: no limit.
	DetachedBytes int
	// Origins lists the exact origins (scheme://host[:port]) of web pages that may
	// attach. Empty allows any origin. That is safe: the credential is a token, which
	// the page of another site does not have, and not a cookie.
	Origins []string
	// Hosts lists the names (host, or host:port) of this node that a client may use
	// in the Host header, as in the node's URL. A host alone matches any port. Empty
	// allows any name.
	Hosts []string

	Logger   *slog.Logger          // default: slog.Default()
	Registry prometheus.Registerer // default: a registry of its own
}

// Limits limit what one session may hold and send. The welcome message contains them.
type Limits struct {
	MessageBytes    int // of one message's payload. Default 65,536
	UnackedBytes    int // of payload sent and not confirmed, in each direction. Default 262,144
	UnackedMessages int // the same, in messages. Default 1,024
}

// Rates limit what one connection may send per second, on average over two seconds. The
// node does not refuse what exceeds them. It reads the connection more slowly, so
// that data backs up at that client, and other clients do not wait.
type Rates struct {
	Bytes    int // bytes of WebSocket frames. Default 4,194,304; negative: no limit
	Messages int // messages of the application and controls of the protocol. Default 2,000; negative: no limit
	Frames   int // frames of all kinds, each fragment of a message included. Default 4,000; negative: no limit
	Pings    int // WebSocket pings, pongs and closes. Default 50; negative: no limit
}

func (r *Rates) setDefaults() {
	setDefault(&r.Bytes, 4<<20)
	setDefault(&r.Messages, 2000)
	setDefault(&r.Frames, 4000)
	setDefault(&r.Pings, 50)
}

func (c *Config) setDefaults() error {
	switch {
	case c.ID == "" || len(c.ID) > proto.MaxNameBytes:
		return fmt.Errorf("node: ID %q must have 1 to %d bytes", c.ID, proto.MaxNameBytes)
	case c.App == nil, c.Store == nil, c.Verifier == nil:
		return errors.New("node: Config needs App, Store and Verifier")
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
		return fmt.Errorf("node: MaxSessions %d, ResumeWindow %v, PingInterval %v, WriteTimeout %v, MessageBytes %d, UnackedMessages %d: none may be negative",
			c.MaxSessions, c.ResumeWindow, c.PingInterval, c.WriteTimeout, c.Limits.MessageBytes, c.Limits.UnackedMessages)
	}
	// These values go to the client in the welcome, and clients count in 32 bits.
	if c.PingInterval < time.Millisecond || max(c.PingInterval, c.ResumeWindow).Milliseconds() > proto.MaxSetting {
		return fmt.Errorf("node: PingInterval %v and ResumeWindow %v must be at most %v, and PingInterval at least 1ms",
			c.PingInterval, c.ResumeWindow, proto.MaxSetting*time.Millisecond)
	}
	if max(c.Limits.MessageBytes, c.Limits.UnackedBytes, c.Limits.UnackedMessages) > proto.MaxSetting {
		return fmt.Errorf("node: Limits %+v: no limit may be over %d", c.Limits, proto.MaxSetting)
	}
	if c.Limits.UnackedBytes < c.Limits.MessageBytes {
		return fmt.Errorf("node: UnackedBytes %d is less than MessageBytes %d, so the largest message could never be sent",
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
