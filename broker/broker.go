package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Broker gives sessions to nodes. Its methods may be called concurrently.
type Broker struct {
	cfg   Config
	log   *slog.Logger
	store session.Store
	hooks Hooks

	mu      sync.Mutex // guards what follows
	table   *placement.Table
	nodes   map[string]*node
	placers map[string]bool // the members that place, this one included

	orders   orders
	suspects *suspects
	lines    lines
}

// New returns a broker that knows no node yet. Feed it the events of the
// cluster, call Run beside it, and Close it in the end.
func New(cfg Config) (*Broker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Broker{
		cfg: cfg, log: cfg.Logger, store: cfg.Store, hooks: cfg.Hooks,
		table: cfg.Placement, nodes: map[string]*node{}, placers: map[string]bool{cfg.Issuer: true},
		orders: newOrders(cfg), suspects: newSuspects(),
	}, nil
}

// Close gives up the commands and probes that are under way and waits until
// they are.
func (b *Broker) Close() {
	b.orders.close()
	b.suspects.close()
}

// Assign opens a session for a user and says where its client goes. The errors
// are ErrInvalid, ErrNoSigner, placement.ErrNoCapacity, placement.ErrNoNodes,
// session.ErrConnected and session.ErrUnavailable, each wrapped. What sessions
// the user may have beside it, Config.Duplicates says; those that may not be any
// more are over when Assign returns. After an error there is no session, or,
// if the store was unavailable, at most one that nobody knows of and that is
// forgotten after the time for attaching.
func (b *Broker) Assign(ctx context.Context, req proto.AssignmentRequest) (proto.Assignment, error) {
	a, err := b.assign(ctx, req)
	b.hooks.Assigned(resultOf(err))
	return a, err
}

func (b *Broker) assign(ctx context.Context, req proto.AssignmentRequest) (proto.Assignment, error) {
	if b.cfg.Signer == nil {
		return proto.Assignment{}, ErrNoSigner
	}
	r, err := newRecord(req)
	if err != nil {
		return proto.Assignment{}, err
	}
	to, err := b.choose(ctx, r, "")
	if err != nil {
		return proto.Assignment{}, err
	}
	r.Node = to.id
	made, ended, err := b.store.Create(ctx, session.NewRequest(), r, b.cfg.rule(r.Pool), b.cfg.AssignTTL)
	if err != nil {
		b.unpick(to)
		b.leave(r)
		return proto.Assignment{}, fmt.Errorf("opening a session: %w", err)
	}
	for _, old := range ended {
		b.log.Info("session ended by a login", "session", old.ID, "user", old.User, "node", old.Node, "by", made.ID)
		b.tellEnded(old)
	}
	return b.ticket(place{made, to}, req.Confirm)
}

// Reassign says where the client of a session goes now: to the node that has
// it, while that may keep it, or else to another, and then the session has
// moved. The claims must be authentic; they may have expired. unreachable is
// the id of the node that the client could not attach to, or "".
//
// Of several who ask at once, one moves the session and all are told the same.
// The errors are those of Assign, and session.ErrNotFound and session.ErrEnded.
func (b *Broker) Reassign(ctx context.Context, c proto.Claims, unreachable string) (proto.Assignment, error) {
	at, reason, err := b.reassign(ctx, c, unreachable)
	var a proto.Assignment
	if err == nil {
		a, err = b.ticket(at, c.Confirm)
	}
	if err != nil {
		reason = ""
	}
	b.hooks.Reassigned(resultOf(err), reason)
	return a, err
}

// Prove notes the number of a proof of possession, which serves once. The errors
// are those of session.Store.
func (b *Broker) Prove(ctx context.Context, sid string, proof uint64) error {
	return b.store.Prove(ctx, sid, proof)
}

// place is where a session is.
type place struct {
	session.Record
	to target
}

func (b *Broker) reassign(ctx context.Context, c proto.Claims, unreachable string) (place, Reason, error) {
	if b.cfg.Signer == nil {
		return place{}, "", ErrNoSigner
	}
	r, err := b.store.Get(ctx, c.Session)
	if err == nil && r.User != c.User { // no token of ours says so
		err = session.ErrNotFound
	}
	if err != nil {
		return place{}, "", fmt.Errorf("finding the session: %w", err)
	}
	owner, reason := b.judge(r, unreachable)
	if reason == Stayed {
		return place{r, owner}, Stayed, nil
	}
	var failed <-chan struct{}
	if reason == Unreachable {
		b.doubt(owner.id, r.User)
		failed = b.suspect(owner)
	}
	exclude := unreachable
	if reason == Rebalance {
		exclude = owner.id
	}
	to, err := b.choose(ctx, r, exclude)
	if noRoom(err) && owner.id != "" && !(reason == Draining && r.State == session.Assigned) {
		return place{r, owner}, OnlyOne, nil // a node that drains serves those it has
	}
	if noRoom(err) && unreachable != "" { // better a node that may be reached by now than none
		to, err = b.choose(ctx, r, "")
	}
	if err != nil {
		return place{}, "", err
	}
	if to.id == r.Node { // it came back, or is ready again, after it was judged
		b.unpick(to)
		return place{r, to}, Stayed, nil
	}
	switch stays, handed := b.handOver(ctx, r, to, reason, failed); {
	case stays != "":
		b.unpick(to)
		return place{r, owner}, stays, nil
	case handed:
		return b.handed(ctx, r, to, reason)
	}
	return b.take(ctx, r, to, reason)
}

// take gives the session to another node without asking its owner, unless
// somebody else has done so since r was read, or the owner was reached by its
// client after all: then it follows.
func (b *Broker) take(ctx context.Context, r session.Record, to target, reason Reason) (place, Reason, error) {
	now, err := b.store.Reassign(ctx, session.NewRequest(), r, to.id, b.cfg.AssignTTL)
	if err != nil {
		b.unpick(to)
		if !errors.Is(err, session.ErrMoved) {
			return place{}, "", fmt.Errorf("moving the session: %w", err)
		}
		return b.follow(now)
	}
	b.log.Info("session moved", "session", r.ID, "user", r.User, "from", r.Node, "to", now.Node, "epoch", now.Epoch, "reason", string(reason))
	b.tell(r.Node, proto.Command{Op: proto.OpMoved, Session: r.ID, Epoch: now.Epoch})
	return place{now, to}, reason, nil
}

// follow answers for a session that somebody else has moved.
func (b *Broker) follow(now session.Record) (place, Reason, error) {
	winner, ok := b.find(now.Node)
	if !ok { // a broker that knows more has placed it; gossip will tell
		return place{}, "", fmt.Errorf("the session moved to %q, whose address is not known here yet: %w", now.Node, placement.ErrNoNodes)
	}
	return place{now, winner}, Followed, nil
}

// ticket is what the client of the session is told: where to go, and the token
// that opens the door there, for whoever has the key, if there is one.
func (b *Broker) ticket(at place, key proto.Confirmation) (proto.Assignment, error) {
	r, to := at.Record, at.to
	now := b.cfg.Now()
	expires := now.Add(b.cfg.TokenTTL).Truncate(time.Second)
	token, err := b.cfg.Signer.Sign(proto.Claims{
		Issuer: b.cfg.Issuer, Audience: proto.TokenAudience,
		User: r.User, Session: r.ID, Node: to.id, Epoch: r.Epoch,
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: expires.Unix(),
		ID: rand.Text(), Ext: r.Ext, Confirm: key,
	})
	if err != nil {
		return proto.Assignment{}, fmt.Errorf("signing a token: %w", err)
	}
	return proto.Assignment{
		Token: token, TokenExpiresAt: expires.UTC(), Session: r.ID, User: r.User,
		Node: proto.NodeAddress{ID: to.id, URL: to.url},
	}, nil
}

func noRoom(err error) bool {
	return errors.Is(err, placement.ErrNoCapacity) || errors.Is(err, placement.ErrNoNodes)
}
