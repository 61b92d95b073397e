package broker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

const issuer = "auth-1/8f3a"

// fixture is a broker with its dependencies: a store in memory, keys, and a
// cluster that records the commands.
type fixture struct {
	*broker.Broker
	t        *testing.T
	clock    *clock
	store    *store
	cluster  *cluster
	signer   broker.Signer
	verifier token.Verifier
	counts   counts
	policies map[string]broker.Duplicates
	probe    func(ctx context.Context, url string) error // nil: every node can be reached
	seq      uint64
}

// newFixture returns a broker with ready nodes of those ids, in pool "default".
func newFixture(t *testing.T, nodes ...string) *fixture {
	t.Helper()
	keys, err := token.NewKeySet()
	if err != nil {
		t.Fatal(err)
	}
	h := &fixture{
		t: t, clock: &clock{at: time.Now()}, cluster: &cluster{},
		policies: map[string]broker.Duplicates{"": {Sessions: broker.AnyNumber}},
	}
	h.store = &store{Store: memory.New(h.clock.now)}
	h.verifier = token.Verifier{Keys: keys, Now: h.clock.now}
	h.signer = keys
	h.rebuild(nil)
	t.Cleanup(func() {
		h.Close()
		h.store.Close()
	})
	for _, id := range nodes {
		h.join(id)
	}
	return h
}

// rebuild replaces the broker with one that has another configuration.
func (h *fixture) rebuild(change func(*broker.Config)) {
	h.t.Helper()
	if h.Broker != nil {
		h.Close()
	}
	cfg := broker.Config{
		Issuer: issuer, Store: h.store, Signer: h.signer, Cluster: h.cluster,
		Random: rand.New(rand.NewPCG(1, 2)), Now: h.clock.now, Hooks: h.counts.hooks(), Duplicates: h.policies,
		Probe: func(ctx context.Context, _, url string) error {
			if h.probe == nil {
				return nil
			}
			return h.probe(ctx, url)
		},
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if h.Broker, err = broker.New(cfg); err != nil {
		h.t.Fatal(err)
	}
}

// join adds or updates a ready node with a capacity of 1000.
func (h *fixture) join(id string, change ...func(*proto.Peer)) {
	p := proto.Peer{
		ID: id, Role: proto.RoleNode, State: proto.StateReady, URL: "wss://" + id + ".example/v1/connect",
		Pool: proto.DefaultPool, Capacity: 1000, Generation: 1, Version: "v1",
	}
	for _, f := range change {
		f(&p)
	}
	h.Update(p)
}

// report sends a report of a node of generation 1.
func (h *fixture) report(id string, state proto.NodeState, live uint32) {
	h.seq++
	h.Report(proto.Report{ID: id, Generation: 1, Seq: h.seq, State: state, Capacity: 1000, Live: live})
}

func (h *fixture) assign(req proto.AssignmentRequest) proto.Assignment {
	h.t.Helper()
	a, err := h.Assign(h.t.Context(), req)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

func (h *fixture) claims(a proto.Assignment) proto.Claims {
	h.t.Helper()
	c, err := h.verifier.Verify(h.t.Context(), a.Token)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// reconnect calls Reassign for the session of an assignment.
func (h *fixture) reconnect(a proto.Assignment, unreachable string) proto.Assignment {
	h.t.Helper()
	again, err := h.Reassign(h.t.Context(), h.claims(a), unreachable)
	if err != nil {
		h.t.Fatal(err)
	}
	return again
}

// attach makes the node of an assignment attach its session.
func (h *fixture) attach(a proto.Assignment) session.Lease {
	h.t.Helper()
	c := h.claims(a)
	l := session.Lease{ID: c.Session, Node: c.Node, Epoch: c.Epoch}
	if _, err := h.store.Attach(h.t.Context(), l, "stream-1", true, 0, time.Hour); err != nil {
		h.t.Fatal(err)
	}
	return l
}

// detach makes the node renew the session as detached.
func (h *fixture) detach(l session.Lease, window time.Duration) {
	h.t.Helper()
	r, err := h.store.Get(h.t.Context(), l.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	r.State = session.Detached
	if err := h.store.Renew(h.t.Context(), []session.Record{r}, []time.Duration{window})[0]; err != nil {
		h.t.Fatal(err)
	}
}

func (h *fixture) pending(id string) int {
	h.t.Helper()
	v, ok := h.Node(id)
	if !ok {
		h.t.Fatalf("no node %s", id)
	}
	return v.Pending
}

// clock is a clock that only advance moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// store is a session store that can be made to fail.
type store struct {
	session.Store
	down     error                 // what Create, Reassign, Group and End return
	overtake func(id string) error // called before a Reassign
}

func (s *store) Create(ctx context.Context, request string, r session.Record, rule session.Rule, ttl time.Duration) (session.Record, []session.Record, error) {
	if s.down != nil {
		return session.Record{}, nil, s.down
	}
	return s.Store.Create(ctx, request, r, rule, ttl)
}

func (s *store) Reassign(ctx context.Context, request string, seen session.Record, node string, ttl time.Duration) (session.Record, error) {
	if s.down != nil {
		return session.Record{}, s.down
	}
	if s.overtake != nil {
		if err := s.overtake(seen.ID); err != nil {
			return session.Record{}, err
		}
	}
	return s.Store.Reassign(ctx, request, seen, node, ttl)
}

func (s *store) Group(ctx context.Context, group, sid, node, replace string, ttl time.Duration) (session.Bound, error) {
	if s.down != nil {
		return session.Bound{}, s.down
	}
	return s.Store.Group(ctx, group, sid, node, replace, ttl)
}

func (s *store) End(ctx context.Context, id string, epoch uint64, reason session.Reason, closeReason string, ttl time.Duration) (session.Record, error) {
	if s.down != nil {
		return session.Record{}, s.down
	}
	return s.Store.End(ctx, id, epoch, reason, closeReason, ttl)
}

var errDown = fmt.Errorf("connection refused: %w", session.ErrUnavailable)

// cluster records the commands and answers them. Its nodes hold no sessions,
// unless answer says otherwise.
type cluster struct {
	mu     sync.Mutex
	answer answer // nil: executed
	sent   []sentCommand
}

type answer = func(ctx context.Context, to string, cmd proto.Command) (proto.CommandResult, error)

type sentCommand struct {
	to  string
	cmd proto.Command
}

func (c *cluster) Call(ctx context.Context, to string, cmd proto.Command) (proto.CommandResult, error) {
	c.mu.Lock()
	f := c.answer
	if f != nil || cmd.Op != proto.OpMove {
		c.sent = append(c.sent, sentCommand{to, cmd})
	}
	c.mu.Unlock()
	if f != nil {
		return f(ctx, to, cmd)
	}
	return proto.CommandResult{Found: cmd.Op != proto.OpMove}, nil
}

// answers makes the nodes answer with f from now on. It takes the lock because
// commands may be under way.
func (h *fixture) answers(f answer) {
	h.cluster.mu.Lock()
	defer h.cluster.mu.Unlock()
	h.cluster.answer = f
}

// commands closes the broker, which waits for its commands, and returns them.
func (h *fixture) commands() []sentCommand {
	h.Close()
	h.cluster.mu.Lock()
	defer h.cluster.mu.Unlock()
	return h.cluster.sent
}

// counts counts the calls of the hooks, by hook and label.
type counts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counts) add(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[fmt.Sprintf(format, args...)]++
}

func (c *counts) of(label string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[label]
}

func (c *counts) hooks() broker.Hooks {
	return broker.Hooks{
		Assigned:   func(r broker.Result) { c.add("assigned %s", r) },
		Ended:      func(r broker.Result) { c.add("ended %s", r) },
		Reassigned: func(r broker.Result, why broker.Reason) { c.add("reassigned %s %s", r, why) },
		Picked:     func(r broker.Result, _ time.Duration) { c.add("picked %s", r) },
		Probed:     func(node string, err error) { c.add("probed %s %v", node, err) },
		Waited:     func(pool string, what broker.Waited, _ int) { c.add("waited %s %s", pool, what) },
		Commanded:  func(op string, s broker.CommandStatus) { c.add("commanded %s %s", op, s) },
	}
}
