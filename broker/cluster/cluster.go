// Package cluster tracks the live members of the cluster and their load.
//
// Membership, metadata and a coarse load are gossiped to every member. A node
// sends its exact load directly to the members that place sessions, and these
// send commands directly to a node. Everything is carried by memberlist, which no
// other package imports, and encrypted with one key: whoever holds the key is
// trusted.
package cluster

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/usher-broker/usher/proto"
)

// Errors of a Cluster.
var (
	ErrUnknownMember = errors.New("cluster: no such member")
	ErrNoAnswer      = errors.New("cluster: no answer")
	ErrClosed        = errors.New("cluster: closed")
)

// Config configures a member and how it finds the others.
type Config struct {
	// Self is this member's metadata. Its ID and Role must not change later.
	Self proto.Peer

	// Bind is the host:port to gossip on, over UDP and TCP. Port 0 means any free
	// port, host:first-last the first free port of the range. A host that is not
	// loopback requires a Key.
	Bind string
	// Advertise is the host:port at which other members reach this one, if it
	// differs from the bound one. Without it, a member bound to all addresses
	// advertises a private one.
	Advertise string
	// Join lists members to join through, each as host:port. Host names are
	// resolved again for each attempt. This member may be in the list.
	Join []string
	// Key encrypts and authenticates all messages: 32 bytes, or nil on loopback.
	Key []byte
	// OldKeys are further keys that decrypt messages: see SetKeys.
	OldKeys [][]byte
	// Sign is the key that signs this node's metadata; nil for none. A member
	// that has only the gossip key can neither create nor change signed metadata.
	Sign ed25519.PrivateKey
	// Accept decides whether a node's metadata is valid; raw is its encoding. If
	// it returns an error, the metadata is ignored and the previous one stays. It
	// must not block. Nil accepts all.
	Accept func(p proto.Peer, raw []byte) error
	// Networks are the networks from which members may gossip. Empty means any.
	Networks []netip.Prefix
	// Label is the name of the cluster; messages with another label are ignored.
	Label string
	// Rejoin is the interval at which this member tries those of Join that are
	// not live members. Default 10 s; at most 1 s while this member is alone.
	Rejoin time.Duration

	Logger *slog.Logger // default slog.Default()
	Events Events
	// Handle executes a command of the member from, which places sessions. Calls
	// may overlap. A command that is sent again is not executed again. Nil
	// refuses all commands.
	Handle func(ctx context.Context, from string, cmd proto.Command) proto.CommandResult
}

// Events are callbacks for changes of other members, called one at a time. The
// functions must not block, nor call SetSelf, Leave or Close, because gossip
// waits for them. Any may be nil. None is called after Close has returned.
type Events struct {
	Update func(proto.Peer)   // a member joined or its metadata changed
	Leave  func(id string)    // a member left or died
	Report func(proto.Report) // a node reported its load; the node is a member at that time
}

// Cluster is this member's connection to the cluster. Its methods may be called
// concurrently.
type Cluster struct {
	cfg    Config
	log    *slog.Logger
	list   *memberlist.Memberlist
	ring   *memberlist.Keyring // nil without a key
	addr   string
	counts counts
	sent   *traffic
	slots  chan struct{} // one for each command that is being executed
	nonce  uint64        // first half of the ids of this process's calls
	calls  atomic.Uint64

	ctx    context.Context // ends with Leave or Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	closeMu sync.Mutex // held during Leave and Close
	closed  bool

	// eventMu is held during an event, so that events come one at a time and in
	// the order in which members changed. Lock it before mu.
	eventMu   sync.Mutex
	eventsOff bool // no more events

	mu      sync.Mutex
	closing bool
	self    proto.Peer
	meta    []byte // self, encoded
	members map[string]member
	refused map[string]memberlist.Node // live members whose metadata was not accepted
	pending map[callID]chan proto.CommandResult
	recent  recent

	observers      atomic.Uint64 // number of joins of members that place sessions
	observerJoined chan struct{} // receives a value after each of these joins; buffered
	contested      atomic.Bool   // another member uses the id of this one
	joined         atomic.Bool
	joinError      atomic.Pointer[error]
}

// member is a member, possibly this one, and where messages to it are sent.
type member struct {
	peer proto.Peer
	node memberlist.Node
}

// Join binds the address and starts to gossip. It does not wait for other
// members: while none of cfg.Join can be reached it tries again, and Health
// reports it. ctx bounds Join only.
func Join(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.Rejoin <= 0 {
		cfg.Rejoin = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	c := &Cluster{
		cfg: cfg, log: cfg.Logger.With("member", cfg.Self.ID), self: cfg.Self,
		slots: make(chan struct{}, maxServing), observerJoined: make(chan struct{}, 1), nonce: newNonce(), sent: &traffic{},
		members: map[string]member{}, refused: map[string]memberlist.Node{}, pending: map[callID]chan proto.CommandResult{},
	}
	var err error
	if c.meta, err = c.encode(cfg.Self); err != nil {
		return nil, err
	}
	seeds, err := parseSeeds(cfg.Join)
	if err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if err := c.listen(ctx); err != nil {
		c.cancel()
		return nil, err
	}
	c.joined.Store(len(seeds) == 0)
	if len(seeds) > 0 {
		c.spawn(func() { c.keepJoined(seeds) })
	}
	return c, nil
}

// encode returns the metadata of this member, signed if there is a key.
func (c *Cluster) encode(p proto.Peer) ([]byte, error) {
	if c.cfg.Sign != nil {
		p.Issued = time.Now().Unix()
	}
	b, err := proto.AppendPeer(nil, p)
	if err == nil && c.cfg.Sign != nil {
		b, err = proto.SignPeer(b, c.cfg.Sign)
	}
	if err == nil {
		_, err = proto.ParsePeer(b) // fail here on what the other members would refuse
	}
	if err != nil {
		return nil, fmt.Errorf("cluster: metadata of this member: %w", err)
	}
	return b, nil
}

// Addr returns the gossip address at which other members reach this one,
// host:port.
func (c *Cluster) Addr() string { return c.addr }

// Members returns the live members, this one included, by id.
func (c *Cluster) Members() []proto.Peer {
	c.mu.Lock()
	peers := make([]proto.Peer, 0, len(c.members))
	for _, m := range c.members {
		peers = append(peers, m.peer)
	}
	c.mu.Unlock()
	slices.SortFunc(peers, func(a, b proto.Peer) int { return strings.Compare(a.ID, b.ID) })
	return peers
}

// SetSelf changes this member's metadata and lets gossip spread it. It does not
// wait for that. Every change is sent to every member, so the caller must limit
// the rate.
func (c *Cluster) SetSelf(p proto.Peer) error {
	if p.ID != c.cfg.Self.ID || p.Role != c.cfg.Self.Role {
		return fmt.Errorf("cluster: member %s (%v) cannot become %s (%v)", c.cfg.Self.ID, c.cfg.Self.Role, p.ID, p.Role)
	}
	meta, err := c.encode(p)
	if err != nil {
		return err
	}
	if c.ctx.Err() != nil {
		return ErrClosed
	}
	c.mu.Lock()
	c.self, c.meta = p, meta
	c.mu.Unlock()
	c.announce()
	return nil
}

// announce makes gossip spread the metadata. It ignores the error of UpdateNode,
// which says only that the metadata had not spread within the timeout.
func (c *Cluster) announce() { _ = c.list.UpdateNode(time.Nanosecond) }

// SendReport sends a report to one member, best effort: nil does not mean that it
// arrives.
func (c *Cluster) SendReport(to string, r proto.Report) error {
	node, err := c.lookup(to)
	if err != nil {
		return err
	}
	b, err := proto.AppendReport([]byte{kindReport}, r)
	if err != nil {
		return fmt.Errorf("cluster: report: %w", err)
	}
	if err := c.list.SendBestEffort(node, b); err != nil {
		c.counts.sendsFailed.Add(1)
		return fmt.Errorf("cluster: report to %s: %w", to, err)
	}
	c.counts.reportsSent.Add(1)
	return nil
}

func (c *Cluster) lookup(id string) (*memberlist.Node, error) {
	if c.ctx.Err() != nil {
		return nil, ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.members[id]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrUnknownMember, id)
	}
	return &m.node, nil
}

// spawn runs f in a goroutine that Close waits for. It returns false if the
// cluster is closing.
func (c *Cluster) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.wg.Go(f)
	return true
}

// Leave announces that this member leaves, waits at most timeout until that is
// sent, and closes. Calls in flight fail.
func (c *Cluster) Leave(timeout time.Duration) error {
	c.closeMu.Lock()
	defer c.closeMu.Unlock()
	if c.closed {
		return nil
	}
	c.cancel()
	err := c.list.Leave(max(timeout, time.Millisecond)) // 0 means no timeout
	if err != nil {
		err = fmt.Errorf("cluster: %w", err)
	}
	return errors.Join(err, c.close())
}

// Close stops without announcing it: the other members will consider this one
// dead. It waits for all goroutines.
func (c *Cluster) Close() error {
	c.closeMu.Lock()
	defer c.closeMu.Unlock()
	return c.close()
}

// close stops everything. The caller holds closeMu.
func (c *Cluster) close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.cancel()
	err := c.list.Shutdown()
	c.wg.Wait()
	c.eventMu.Lock()
	c.eventsOff = true
	c.eventMu.Unlock()
	return err
}
