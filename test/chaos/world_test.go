package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-broker/usher/auth"
	"github.com/usher-broker/usher/auth/credential"
	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/proto"
)

// world is a cluster: auths with a broker each, nodes, and one store.
type world struct {
	t     *testing.T
	net   *network
	store session.Store
	keys  *token.KeySet
	app   *recorder
	log   *slog.Logger
	opts  options

	auths []*authServer
	stop  []func() // called in reverse order

	mu      sync.Mutex
	nodes   map[string]*member
	started int // nodes so far
}

type options struct {
	Seed       uint64
	Checkpoint bool
	Delay      time.Duration // maximum of the network
}

// authServer is an auth with its broker.
type authServer struct {
	name   string
	broker *broker.Broker
	issuer string
}

// member is a node.
type member struct {
	id       string
	node     *node.Node
	store    *nodeStore
	commands *random // delays and losses of commands to it
	seq      uint64
	state    proto.NodeState // in the last report
	gen      uint64
	stop     func()
	dead     atomic.Bool
}

// nodeStore is a node's connection to the store. Calls take a random time, sometimes
// the answer is lost, and every call fails once the node is killed.
type nodeStore struct {
	session.Store
	random *random
	dead   atomic.Bool
}

// call runs f between the delays of a request and of its answer. It returns an error
// if f did not run or its answer is lost.
func (s *nodeStore) call(ctx context.Context, f func()) error {
	if !sleep(ctx, s.random.delay()) || s.dead.Load() {
		return fmt.Errorf("%w: not asked", session.ErrUnavailable)
	}
	f()
	if !sleep(ctx, s.random.delay()) || s.dead.Load() || s.random.float() < 0.02 {
		return fmt.Errorf("%w: the answer was lost", session.ErrUnavailable)
	}
	return nil
}

func (s *nodeStore) Attach(ctx context.Context, l session.Lease, stream string, take bool, proof uint64, ttl time.Duration) (r session.Record, err error) {
	if lost := s.call(ctx, func() { r, err = s.Store.Attach(ctx, l, stream, take, proof, ttl) }); lost != nil {
		return session.Record{}, lost
	}
	return r, err
}

func (s *nodeStore) Restore(ctx context.Context, l session.Lease) (r session.Record, p session.StoredState, err error) {
	if lost := s.call(ctx, func() { r, p, err = s.Store.Restore(ctx, l) }); lost != nil {
		return session.Record{}, session.StoredState{}, lost
	}
	return r, p, err
}

func (s *nodeStore) Renew(ctx context.Context, records []session.Record, ttls []time.Duration) (errs []error) {
	if lost := s.call(ctx, func() { errs = s.Store.Renew(ctx, records, ttls) }); lost != nil {
		return repeatError(len(records), lost)
	}
	return errs
}

func (s *nodeStore) Save(ctx context.Context, list []session.Saved) (errs []error) {
	if lost := s.call(ctx, func() { errs = s.Store.Save(ctx, list) }); lost != nil {
		return repeatError(len(list), lost)
	}
	return errs
}

func (s *nodeStore) Move(ctx context.Context, request string, v session.Saved, to string) (r session.Record, err error) {
	if lost := s.call(ctx, func() { r, err = s.Store.Move(ctx, request, v, to) }); lost != nil {
		return session.Record{}, lost
	}
	return r, err
}

func (s *nodeStore) End(ctx context.Context, id string, epoch uint64, reason session.Reason, closeReason string, ttl time.Duration) (r session.Record, err error) {
	if lost := s.call(ctx, func() { r, err = s.Store.End(ctx, id, epoch, reason, closeReason, ttl) }); lost != nil {
		return session.Record{}, lost
	}
	return r, err
}

func (s *nodeStore) EndAll(ctx context.Context, list []session.Ending, ttl time.Duration) (errs []error) {
	if lost := s.call(ctx, func() { errs = s.Store.EndAll(ctx, list, ttl) }); lost != nil {
		return repeatError(len(list), lost)
	}
	return errs
}

func (s *nodeStore) Ping(ctx context.Context) (err error) {
	if lost := s.call(ctx, func() { err = s.Store.Ping(ctx) }); lost != nil {
		return lost
	}
	return err
}

// repeatError returns err n times.
func repeatError(n int, err error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

func newWorld(t *testing.T, opts options, nodes int) *world {
	w := &world{
		t: t, net: newNetwork(opts.Seed, opts.Delay), app: newRecorder(), opts: opts,
		store: memory.New(time.Now), nodes: map[string]*member{},
		log: slog.New(slog.DiscardHandler),
	}
	if traced {
		w.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	var err error
	if w.keys, err = token.NewKeySet(); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		w.startAuth(fmt.Sprintf("auth-%d", i+1))
	}
	w.background(w.gossip)
	for range nodes {
		w.startNode()
	}
	return w
}

// background runs f in a goroutine until the world is closed.
func (w *world) background(f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	w.stop = append(w.stop, func() { cancel(); <-done })
}

func (w *world) startAuth(name string) {
	a := &authServer{name: name, issuer: name + "/1"}
	var err error
	a.broker, err = broker.New(broker.Config{
		Issuer: a.issuer, Store: w.store, Signer: w.keys, Cluster: w,
		Random: rand.New(rand.NewPCG(w.opts.Seed, 3)),
		Probe:  w.probe, Health: broker.Health{Interval: 2 * time.Second}, Logger: w.log.With("at", name),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	server, err := auth.New(auth.Config{
		Broker: a.broker, Verifier: &token.Verifier{Keys: w.keys}, JWKS: w.keys.JWKS,
		Providers: map[string]credential.Provider{"guest": credential.Guest{}}, Logger: w.log.With("at", name),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.background(func(ctx context.Context) { _ = a.broker.Run(ctx) })
	w.stop = append(w.stop, a.broker.Close, w.serve(name+":80", server.Handler()))
	w.auths = append(w.auths, a)
}

// serve serves h at the address. The function it returns stops the server.
func (w *world) serve(addr string, h http.Handler) (stop func()) {
	ln := w.net.listen(addr)
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	return func() {
		_ = s.Close()
		<-done
	}
}

func (w *world) startNode() *member {
	w.mu.Lock()
	w.started++
	m := &member{id: fmt.Sprintf("node-%d", w.started), gen: uint64(w.started)}
	m.store = &nodeStore{Store: w.store, random: w.net.random(m.id)}
	m.commands = w.net.random("commands of " + m.id)
	w.mu.Unlock()
	n, err := node.New(node.Config{
		ID: m.id, App: w.app, Store: m.store, Verifier: &token.Verifier{Keys: w.keys},
		PingInterval: time.Second, ResumeWindow: 5 * time.Minute, Checkpoint: w.opts.Checkpoint,
		SnapshotInterval: time.Second, ShedRate: 100,
		Limits: node.Limits{MessageBytes: 1024, UnackedBytes: 16 << 10, UnackedMessages: 64},
		Logger: w.log.With("at", m.id),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	m.node = n
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.Run(ctx)
	}()
	stopServing := w.serve(m.id+":80", n.Handler())
	m.stop = func() {
		end, giveUp := context.WithTimeout(context.Background(), 30*time.Second)
		defer giveUp()
		if err := n.Shutdown(end); err != nil {
			w.app.fault("%s did not shut down: %v", m.id, err)
		}
		stopServing()
		cancel()
		<-done
	}
	w.mu.Lock()
	w.nodes[m.id] = m
	w.mu.Unlock()
	return m
}

// alive returns the nodes that are not dead, in the order in which they started.
func (w *world) alive() []*member {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []*member
	for i := range w.started {
		if m := w.nodes[fmt.Sprintf("node-%d", i+1)]; m != nil && !m.dead.Load() {
			list = append(list, m)
		}
	}
	return list
}

// gossip reports the nodes to the brokers, as the cluster does: a changed state at
// once, and the load every second. kill reports a death, some seconds late.
func (w *world) gossip(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		for _, m := range w.alive() {
			state, live, attached := m.node.Load()
			if changed := state != m.state; !changed && i%20 != 0 {
				continue
			} else if changed {
				m.state = state
				for _, a := range w.auths {
					a.broker.Update(proto.Peer{
						ID: m.id, Role: proto.RoleNode, State: state, URL: "ws://" + m.id + ":80" + proto.ConnectPath,
						Pool: proto.DefaultPool, Capacity: 1000, Live: live, Generation: m.gen,
					})
				}
			}
			m.seq++
			for _, a := range w.auths {
				own, total := m.node.Arrived(a.issuer)
				a.broker.Report(proto.Report{
					ID: m.id, Generation: m.gen, Seq: m.seq, State: state, Capacity: 1000, Live: live, Attached: attached,
					Arrived: own, ArrivedAll: total, Drain: m.node.Draining(),
				})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Call sends a command to a node, as the cluster does. Sometimes an answer is lost; the
// command is then repeated and arrives twice.
func (w *world) Call(ctx context.Context, to string, cmd proto.Command) (proto.CommandResult, error) {
	for {
		w.mu.Lock()
		m := w.nodes[to]
		w.mu.Unlock()
		if m != nil && !m.dead.Load() {
			if !sleep(ctx, m.commands.delay()) {
				return proto.CommandResult{}, ctx.Err()
			}
			result := m.node.Command(ctx, "broker", cmd)
			if ctx.Err() == nil && m.commands.float() > 0.1 {
				return result, nil
			}
		}
		if !sleep(ctx, 250*time.Millisecond) {
			return proto.CommandResult{}, ctx.Err()
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// probe is the broker's check whether a node's address can be reached.
func (w *world) probe(_ context.Context, _, url string) error {
	id := strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), ":80"+proto.ConnectPath)
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.nodes[id]; m == nil || m.dead.Load() {
		return errRefused
	}
	return nil
}

// kill ends a node as kill -9 does.
func (w *world) kill(m *member) {
	m.dead.Store(true)
	m.store.dead.Store(true)
	w.net.each("", m.id+":80", (*wire).cut)
	w.net.mu.Lock()
	l := w.net.listeners[m.id+":80"]
	w.net.mu.Unlock()
	if l != nil {
		l.Close()
	}
	m.stop() // without a connection to anything
	for _, a := range w.auths {
		a.broker.Leave(m.id)
	}
}

// close stops the nodes, auths and network.
func (w *world) close() {
	for _, m := range w.alive() {
		m.stop()
	}
	for i := len(w.stop) - 1; i >= 0; i-- {
		w.stop[i]()
	}
	w.net.each("", "", (*wire).cut)
	w.net.pumps.Wait()
	_ = w.store.Close()
}
