package broker

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// ErrInvalid is wrapped by the errors for an invalid request. Their texts say
// what is wrong with it and may be shown to the caller.
var ErrInvalid = errors.New("invalid request")

// ErrNoSigner: this broker has no key and signs no tokens.
var ErrNoSigner = errors.New("no signing key")

// target is a node that a session may be assigned to.
type target struct {
	id, url string
	picked  *nodes.Node // that counts a session as pending; nil if the placement did not pick it
}

// location is a session and the node that it is assigned to.
type location struct {
	session.Record
	to target
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

// newRecord returns the record of a new session, without its node.
func newRecord(req proto.AssignmentRequest) (session.Record, error) {
	p := req.Placement
	if req.User == "" {
		return session.Record{}, fmt.Errorf("%w: user is missing", ErrInvalid)
	}
	for _, name := range [][2]string{{"user", req.User}, {"region", p.Region}, {"pool", p.Pool}, {"group", p.Group}} {
		if err := checkName(name[0], name[1]); err != nil {
			return session.Record{}, err
		}
	}
	if err := checkFallback(p); err != nil {
		return session.Record{}, err
	}
	if req.Confirm != (proto.Confirmation{}) && !req.Confirm.Valid() {
		return session.Record{}, fmt.Errorf("%w: jkt is not the SHA-256 thumbprint of a key in base64url", ErrInvalid)
	}
	ext, err := checkExt(req.Ext)
	if err != nil {
		return session.Record{}, err
	}
	return session.Record{
		ID: session.NewID(req.User), User: req.User,
		Pool: cmp.Or(p.Pool, proto.DefaultPool), Region: p.Region, Group: p.Group, Ext: ext,
		Fallback: p.Fallback, Strict: p.Strict,
	}, nil
}

// duplicateReason is the close reason of a session that a later login ends.
const duplicateReason = "duplicate_login"

// rule returns the rule that the store applies when it creates a session in the
// pool.
func (c *Config) rule(pool string) session.Rule {
	d, ok := c.Duplicates[pool]
	if !ok {
		d = c.Duplicates[""]
	}
	r := session.Rule{
		Sessions: max(d.Sessions, 1), Refuse: d.Reject,
		Reason: proto.CloseKicked, CloseReason: duplicateReason, TTL: c.tombstoneTTL(),
	}
	if d.Sessions == AnyNumber {
		r.Sessions = 0
	}
	return r
}

// choose returns the node for a session: the node of the session's group,
// otherwise the one that the placement picks. If the session is not assigned to
// the returned target, the caller must pass it to unpick.
func (b *Broker) choose(ctx context.Context, r session.Record, exclude string) (target, error) {
	to, err := b.pick(hints(r, exclude))
	if err != nil || r.Group == "" {
		return to, err
	}
	bound, err := b.bind(ctx, r, to, exclude)
	if err != nil || bound.id != to.id {
		b.unpick(to)
	}
	return bound, err
}

func hints(r session.Record, exclude string) placement.Hints {
	return placement.Hints{
		Region: r.Region, Fallback: r.Fallback, Strict: r.Strict, Pool: r.Pool,
		Exclude: exclude, Balance: r.Leaving, Key: cmp.Or(r.Group, r.User),
	}
}

func (b *Broker) pick(h placement.Hints) (target, error) {
	start := time.Now()
	to, err := b.pickLocked(h)
	b.hooks.Picked(resultOf(err), time.Since(start))
	if err != nil {
		return target{}, fmt.Errorf("placing a session in pool %q: %w", h.Pool, err)
	}
	return to, nil
}

func (b *Broker) pickLocked(h placement.Hints) (target, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pace.stir()
	now := b.cfg.Now()
	if now.Sub(b.ticked) > 2*tick { // the broker is at rest
		b.tickTable(now)
	}
	n, err := b.picker.Pick(now, h)
	if err != nil {
		return target{}, err
	}
	return target{id: n.ID(), url: n.URL(), picked: n}, nil
}

// unpick cancels the pick of a target that is not used. It does nothing if the
// placement did not pick the target.
func (b *Broker) unpick(t target) {
	if t.picked == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes.Cancel(b.cfg.Now(), t.picked)
}

// bindTries bounds how often bind retries when other requests keep moving the
// group.
const bindTries = 3

// bind returns the node of the session's group. It binds the group to the picked
// node if the group has no node, if its node takes no more sessions, or if the
// group has no other live session. If the group's node is only unreachable for
// this client (exclude), the group stays bound to it and bind returns the picked
// node.
func (b *Broker) bind(ctx context.Context, r session.Record, picked target, exclude string) (target, error) {
	replace := ""
	for range bindTries {
		group, err := b.store.Group(ctx, r.GroupKey(), r.ID, picked.id, replace, b.cfg.GroupTTL)
		if err != nil {
			return target{}, fmt.Errorf("finding the node of the group: %w", err)
		}
		if group.Node == picked.id {
			return picked, nil
		}
		bound, ok := b.accepting(group.Node)
		switch {
		case ok && group.Node == exclude:
			return picked, nil
		case ok && b.groupAlive(ctx, r, group):
			return bound, nil
		}
		replace = group.Node
	}
	return picked, nil
}

// groupAlive reports whether the group has a live session besides r. Sessions of a
// dead node expire without being ended; groupAlive removes those that it finds
// gone from the group.
func (b *Broker) groupAlive(ctx context.Context, r session.Record, group session.Bound) bool {
	if group.Young {
		return true // a session that joined just now may not be created yet
	}
	for _, sid := range group.Others {
		_, err := b.store.Get(ctx, sid)
		if !errors.Is(err, session.ErrNotFound) && !errors.Is(err, session.ErrEnded) {
			return true // alive, or the store does not say
		}
		_ = b.store.Ungroup(ctx, r.GroupKey(), sid) // after an error the next request removes it
	}
	return len(group.Others) == session.GroupOthers // the group may have more sessions than the store returned
}

// leaveGroup removes a session that was not opened from its group.
func (b *Broker) leaveGroup(r session.Record) {
	if key := r.GroupKey(); key != "" {
		ctx, cancel := context.WithTimeout(context.Background(), leaveGroupTimeout)
		defer cancel()
		_ = b.store.Ungroup(ctx, key, r.ID) // after an error the next request removes it
	}
}

const leaveGroupTimeout = 200 * time.Millisecond

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

func checkFallback(p proto.Placement) error {
	switch {
	case len(p.Fallback) > proto.MaxFallback:
		return fmt.Errorf("%w: %d fallback regions, at most %d are allowed", ErrInvalid, len(p.Fallback), proto.MaxFallback)
	case p.Region == "" && (len(p.Fallback) > 0 || p.Strict):
		return fmt.Errorf("%w: fallback and strict require a region", ErrInvalid)
	}
	for _, region := range p.Fallback {
		if region == "" {
			return fmt.Errorf("%w: a fallback region has no name", ErrInvalid)
		}
		if err := checkName("fallback", region); err != nil {
			return err
		}
	}
	return nil
}

// checkName applies the rules for names in a token.
func checkName(what, s string) error {
	switch {
	case len(s) > proto.MaxNameBytes:
		return fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", ErrInvalid, what, len(s), proto.MaxNameBytes)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: %s is not valid UTF-8", ErrInvalid, what)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%w: %s contains a control character", ErrInvalid, what)
	}
	return nil
}

// checkExt returns ext as it is sent, without white space; nil for null.
func checkExt(ext json.RawMessage) (json.RawMessage, error) {
	if len(ext) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	if !utf8.Valid(ext) || json.Compact(&b, ext) != nil {
		return nil, fmt.Errorf("%w: ext is not valid JSON", ErrInvalid)
	}
	switch {
	case b.String() == "null":
		return nil, nil
	case b.Len() > proto.MaxExtBytes:
		return nil, fmt.Errorf("%w: ext has %d bytes, at most %d are allowed", ErrInvalid, b.Len(), proto.MaxExtBytes)
	}
	return b.Bytes(), nil
}
