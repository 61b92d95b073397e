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

// Broker assigns sessions to nodes. Its methods may be called concurrently.
type Broker struct {
	cfg   Config
	log   *slog.Logger
	store Store
	hooks Hooks

	mu      sync.Mutex // protects table, nodes and placers
	table   *placement.Table
	nodes   map[string]*node
	placers map[string]bool // ids of the members that place sessions, this one included

	commands commands
	probes   *probes
	queues   queueLengths
}

// New returns a broker that knows no nodes. The caller passes the events of the
// cluster to Update, Leave and Report, calls Run in a goroutine, and calls Close
// when it is done.
func New(cfg Config) (*Broker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Broker{
		cfg: cfg, log: cfg.Logger, store: cfg.Store, hooks: cfg.Hooks,
		table: cfg.Placement, nodes: map[string]*node{}, placers: map[string]bool{cfg.Issuer: true},
		commands: newCommands(cfg), probes: newProbes(),
	}, nil
}

// Close cancels the commands and probes that are under way and waits until they
// have ended.
func (b *Broker) Close() {
	b.commands.close()
	b.probes.close()
}

// Assign opens a session for a user and returns the node that its client attaches
// to. Config.Duplicates decides which other sessions the user may keep; the
// others have ended when Assign returns.
//
// The errors are ErrInvalid, ErrNoSigner, placement.ErrNoCapacity,
// placement.ErrNoNodes, session.ErrConnected and session.ErrUnavailable, each
// wrapped. After an error the session does not exist. The exceptions are
// session.ErrUnavailable and a failure to sign: then a session may exist that no
// client knows, and it expires after AssignTTL.
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
		b.leaveGroup(r)
		return proto.Assignment{}, fmt.Errorf("opening a session: %w", err)
	}
	for _, old := range ended {
		b.log.Info("session ended by a login", "session", old.ID, "user", old.User, "node", old.Node, "by", made.ID)
		b.notifyEnded(old)
	}
	return b.assignment(location{made, to}, req.Confirm)
}

// Reassign returns the node that the client of a session attaches to now. That is
// the node that has the session, while it may keep it. Otherwise it is another
// node, and the session has moved there. The claims must be authentic; they may
// have expired. unreachable is the id of the node that the client could not
// attach to, or "".
//
// If several requests for one session run at once, one of them moves it and all
// of them return the same node. The errors are those of Assign, and
// session.ErrNotFound and session.ErrEnded.
func (b *Broker) Reassign(ctx context.Context, c proto.Claims, unreachable string) (proto.Assignment, error) {
	at, reason, err := b.reassign(ctx, c, unreachable)
	var a proto.Assignment
	if err == nil {
		a, err = b.assignment(at, c.Confirm)
	}
	if err != nil {
		reason = ""
	}
	b.hooks.Reassigned(resultOf(err), reason)
	return a, err
}

// Prove records the number of a proof of possession, which is valid once. The
// errors are those of session.Store.
func (b *Broker) Prove(ctx context.Context, sid string, proof uint64) error {
	return b.store.Prove(ctx, sid, proof)
}

// location is a session and the node that it is assigned to.
type location struct {
	session.Record
	to target
}

func (b *Broker) reassign(ctx context.Context, c proto.Claims, unreachable string) (location, Reason, error) {
	if b.cfg.Signer == nil {
		return location{}, "", ErrNoSigner
	}
	r, err := b.store.Get(ctx, c.Session)
	if err == nil && r.User != c.User { // no token that was signed here says that
		err = session.ErrNotFound
	}
	if err != nil {
		return location{}, "", fmt.Errorf("finding the session: %w", err)
	}
	owner, reason := b.judge(r, unreachable)
	if reason == Stayed {
		return location{r, owner}, Stayed, nil
	}
	var failed <-chan struct{}
	if reason == Unreachable {
		b.addClientReport(owner.id, r.User)
		failed = b.checkNode(owner)
	}
	exclude := unreachable
	if reason == Rebalance {
		exclude = owner.id
	}
	to, err := b.choose(ctx, r, exclude)
	if noCapacity(err) && owner.id != "" && !(reason == Draining && r.State == session.Assigned) {
		return location{r, owner}, OnlyOne, nil // a draining node keeps the sessions that no other node can take
	}
	if noCapacity(err) && unreachable != "" { // the client may be able to reach that node by now
		to, err = b.choose(ctx, r, "")
	}
	if err != nil {
		return location{}, "", err
	}
	if to.id == r.Node { // it rejoined or became ready again after judge looked at it
		b.unpick(to)
		return location{r, to}, Stayed, nil
	}
	switch stays, handed := b.handOver(ctx, r, to, reason, failed); {
	case stays != "":
		b.unpick(to)
		return location{r, owner}, stays, nil
	case handed:
		return b.handed(ctx, r, to, reason)
	}
	return b.takeSession(ctx, r, to, reason)
}

// takeSession moves the session to another node without asking its owner. If
// another request has moved the session since r was read, or its client has
// attached at the owner after all, takeSession returns where the session is.
func (b *Broker) takeSession(ctx context.Context, r session.Record, to target, reason Reason) (location, Reason, error) {
	now, err := b.store.Reassign(ctx, session.NewRequest(), r, to.id, b.cfg.AssignTTL)
	if err != nil {
		b.unpick(to)
		if !errors.Is(err, session.ErrMoved) {
			return location{}, "", fmt.Errorf("moving the session: %w", err)
		}
		return b.follow(now)
	}
	b.log.Info("session moved", "session", r.ID, "user", r.User, "from", r.Node, "to", now.Node, "epoch", now.Epoch, "reason", string(reason))
	b.notify(r.Node, proto.Command{Op: proto.OpMoved, Session: r.ID, Epoch: now.Epoch})
	return location{now, to}, reason, nil
}

// follow returns the location of a session that another request has moved or kept.
func (b *Broker) follow(now session.Record) (location, Reason, error) {
	winner, ok := b.find(now.Node)
	if !ok { // another broker placed it at a node that gossip has not announced here yet
		return location{}, "", fmt.Errorf("the session moved to node %q, whose address is not known here yet: %w", now.Node, placement.ErrNoNodes)
	}
	return location{now, winner}, Followed, nil
}

// assignment returns the answer for the client of the session: the node, and a
// token for it. The token is bound to key, unless key is the zero value.
func (b *Broker) assignment(at location, key proto.Confirmation) (proto.Assignment, error) {
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

func noCapacity(err error) bool {
	return errors.Is(err, placement.ErrNoCapacity) || errors.Is(err, placement.ErrNoNodes)
}
