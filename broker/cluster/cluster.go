// Package cluster knows who is alive and how full they are.
//
// Membership, identity and a coarse load travel as gossip to every member. A
// node's exact load goes straight to the members that place sessions, and
// commands go straight to a node. All of it is carried by memberlist, which no
// other package names, under one key: who holds it is trusted.
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

// Config says who a member is and how it finds the others.
type Config struct {
	// Self is what the others are told. Its ID and Role never change.
	Self proto.Peer

	// Bind is the host:port to gossip on, UDP and TCP; port 0 is any that is
	// free, and of host:first-last the first is taken that is. A host that is not
	// loopback requires a Key.
	Bind string
	// Advertise is the host:port at which others reach this member, when it is
	// not the one bound. Without it a member bound to all addresses advertises
	// a private one.
	Advertise string
	// Join names members to join through, each host:port. Names are looked up
	// anew each time. This member may be among them.
	Join []string
	// Key encrypts and authenticates everything: 32 bytes, or nil on loopback.
	Key []byte
	// OldKeys are others by which messages are understood: see SetKeys.
	OldKeys [][]byte
	// Sign is the key that this node's metadata is signed with; nil for none. Who
	// knows the gossip key alone cannot make such metadata, nor change it.
	Sign ed25519.PrivateKey
	// Accept is asked whether a node's metadata is to be believed, raw as it came
	// and as it was understood. With an error it is ignored, and what was known of
	// the node stays. It must not block. Nil: all are.
	Accept func(p proto.Peer, raw []byte) error
	// Networks are those from which members may gossip. None: from anywhere.
	Networks []netip.Prefix
	// Label is the name of the cluster; members of another are not listened to.
	Label string
	// Rejoin is how often members of Join that are not alive are tried.
	// Default 10 s; while this member is alone, 1 s at most.
	Rejoin time.Duration

	Logger *slog.Logger // default slog.Default()
	Events Events
	// Handle carries out a command of the member from, which places sessions.
	// Calls of it may overlap; a command that was sent again is not carried
	// out again. A member without it refuses all commands.
	Handle func(ctx context.Context, from string, cmd proto.Command) proto.CommandResult
}

// Events are told what happens to the other members, one event at a time. The
// functions must not block, nor call SetSelf, Leave or Close: gossip waits for
// them. Any may be nil. None is called after Close has returned.
type Events struct {
	Update func(proto.Peer)   // a member joined or its metadata changed
	Leave  func(id string)    // a member left or died
	Report func(proto.Report) // a node told its exact load; the node is a member at that time
}

// Cluster is one member's part in a cluster. Its methods may be called
// concurrently.
type Cluster struct {
	cfg    Config
	log    *slog.Logger
	list   *memberlist.Memberlist
	ring   *memberlist.Keyring // nil without a key
	addr   string
	counts counts
	sent   *traffic
	slots  chan struct{} // held by each command being carried out
	nonce  uint64        // makes the ids of this process' calls its own
	calls  atomic.Uint64

	ctx    context.Context // ends when the cluster is left or closed
	cancel context.CancelFunc
	goes   sync.WaitGroup

	life sync.Mutex // held while leaving and closing
	down bool

	// order is held while an event is told, so that they come one at a time
	// and in the order of the table's changes. It is taken before mu.
	order sync.Mutex
	quiet bool // no more events

	mu      sync.Mutex
	closing bool
	self    proto.Peer
	meta    []byte // self, encoded
	members map[string]member
	refused map[string]memberlist.Node // alive, and not believed
	pending map[callID]chan proto.CommandResult
	recent  recent

	observers atomic.Uint64 // how often a member that places has joined
	contested atomic.Bool   // another member claims the id of this one
	joined    atomic.Bool
	joinError atomic.Pointer[error]
}

// member is another member, or this one, and where messages to it go.
type member struct {
	peer proto.Peer
	node memberlist.Node
}

// Join binds and starts to gossip. It does not wait for others: as long as
// none of cfg.Join can be reached they are tried again, and Health tells. ctx
// bounds the start only.
func Join(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.Rejoin <= 0 {
		cfg.Rejoin = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	c := &Cluster{
		cfg: cfg, log: cfg.Logger.With("member", cfg.Self.ID), self: cfg.Self,
		slots: make(chan struct{}, maxServing), nonce: newNonce(), sent: &traffic{},
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

// encode returns the metadata of this member.
func (c *Cluster) encode(p proto.Peer) ([]byte, error) {
	if c.cfg.Sign != nil {
		p.Issued = time.Now().Unix()
	}
	b, err := proto.AppendPeer(nil, p)
	if err == nil && c.cfg.Sign != nil {
		b, err = proto.SignPeer(b, c.cfg.Sign)
	}
	if err == nil {
		_, err = proto.ParsePeer(b) // what the others would refuse is refused here
	}
	if err != nil {
		return nil, fmt.Errorf("cluster: metadata of this member: %w", err)
	}
	return b, nil
}

// Addr returns the gossip address at which others reach this member, host:port.
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

// SetSelf has the others told what changed about this member. It does not wait
// until they know. Every change goes to every member: the caller bounds how
// often.
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

// announce has gossip spread the metadata. The error of UpdateNode says only
// that it had not spread within the time given to wait, which is none.
func (c *Cluster) announce() { _ = c.list.UpdateNode(time.Nanosecond) }

// SendReport sends a report to one member, best effort: no error does not mean
// that it arrives.
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

// spawn runs f in a goroutine that Close waits for, unless it is too late.
func (c *Cluster) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.goes.Go(f)
	return true
}

// Leave tells the others that this member goes, waits for at most so long until
// that is on its way, and closes. Calls in flight fail.
func (c *Cluster) Leave(timeout time.Duration) error {
	c.life.Lock()
	defer c.life.Unlock()
	if c.down {
		return nil
	}
	c.cancel()
	err := c.list.Leave(max(timeout, time.Millisecond)) // 0 would wait for ever
	if err != nil {
		err = fmt.Errorf("cluster: %w", err)
	}
	return errors.Join(err, c.close())
}

// Close stops without a word: to the others this member looks dead. It waits
// for everything that was started.
func (c *Cluster) Close() error {
	c.life.Lock()
	defer c.life.Unlock()
	return c.close()
}

// close must be called with life held.
func (c *Cluster) close() error {
	if c.down {
		return nil
	}
	c.down = true
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.cancel()
	err := c.list.Shutdown()
	c.goes.Wait()
	c.order.Lock()
	c.quiet = true
	c.order.Unlock()
	return err
}
