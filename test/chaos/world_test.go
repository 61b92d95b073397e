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
	"github.com/usher-broker/usher/broker/placement"
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
	app   *witness
	log   *slog.Logger
	opts  options

	auths []*door
	stop  []func() // in the reverse order

	mu    sync.Mutex
	nodes map[string]*member
	born  int
}

type options struct {
	Seed       uint64
	Checkpoint bool
	Delay      time.Duration // the longest of the network
}

// door is an auth with its broker.
type door struct {
	name   string
	broker *broker.Broker
	issuer string
}

// member is a node.
type member struct {
	id    string
	node  *node.Node
	store *mortal
	line  *chance // of the commands to it
	seq   uint64
	state proto.NodeState // as gossip last said
	gen   uint64
	stop  func()
	dead  atomic.Bool
}

// mortal is a node's way to the store. It takes time, now and then an answer is
// lost, and it ends when the node is killed.
type mortal struct {
	session.Store
	chance *chance
	dead   atomic.Bool
}

// ask takes the way there and back around what is asked.
func (m *mortal) ask(ctx context.Context, what func()) error {
	if !sleep(ctx, m.chance.delay()) || m.dead.Load() {
		return fmt.Errorf("%w: not asked", session.ErrUnavailable)
	}
	what()
	if !sleep(ctx, m.chance.delay()) || m.dead.Load() || m.chance.float() < 0.02 {
		return fmt.Errorf("%w: the answer was lost", session.ErrUnavailable)
	}
	return nil
}

func (m *mortal) Attach(ctx context.Context, l session.Lease, stream string, take bool, proof uint64, ttl time.Duration) (r session.Record, err error) {
	if lost := m.ask(ctx, func() { r, err = m.Store.Attach(ctx, l, stream, take, proof, ttl) }); lost != nil {
		return session.Record{}, lost
	}
	return r, err
}

func (m *mortal) Restore(ctx context.Context, l session.Lease) (r session.Record, p session.StoredState, err error) {
	if lost := m.ask(ctx, func() { r, p, err = m.Store.Restore(ctx, l) }); lost != nil {
		return session.Record{}, session.StoredState{}, lost
	}
	return r, p, err
}

func (m *mortal) Renew(ctx context.Context, records []session.Record, ttls []time.Duration) (errs []error) {
	if lost := m.ask(ctx, func() { errs = m.Store.Renew(ctx, records, ttls) }); lost != nil {
		return all(len(records), lost)
	}
	return errs
}

func (m *mortal) Save(ctx context.Context, list []session.Saved) (errs []error) {
	if lost := m.ask(ctx, func() { errs = m.Store.Save(ctx, list) }); lost != nil {
		return all(len(list), lost)
	}
	return errs
}

func (m *mortal) Move(ctx context.Context, request string, v session.Saved, to string) (r session.Record, err error) {
	if lost := m.ask(ctx, func() { r, err = m.Store.Move(ctx, request, v, to) }); lost != nil {
		return session.Record{}, lost
	}
	return r, err
}

func (m *mortal) End(ctx context.Context, id string, epoch uint64, reason session.Reason, word string, ttl time.Duration) (r session.Record, err error) {
	if lost := m.ask(ctx, func() { r, err = m.Store.End(ctx, id, epoch, reason, word, ttl) }); lost != nil {
		return session.Record{}, lost
	}
	return r, err
}

func (m *mortal) Ping(ctx context.Context) (err error) {
	if lost := m.ask(ctx, func() { err = m.Store.Ping(ctx) }); lost != nil {
		return lost
	}
	return err
}

func all(n int, err error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

func newWorld(t *testing.T, opts options, nodes int) *world {
	w := &world{
		t: t, net: newNetwork(opts.Seed, opts.Delay), app: newWitness(), opts: opts,
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

// background runs f until the world ends.
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
	d := &door{name: name, issuer: name + "/1"}
	var err error
	d.broker, err = broker.New(broker.Config{
		Issuer: d.issuer, Store: w.store, Signer: w.keys, Cluster: w,
		Placement: placement.NewTable(placement.Config{Issuer: d.issuer, Probed: true}, rand.New(rand.NewPCG(w.opts.Seed, 3)), time.Now()),
		Probe:     w.probe, Health: broker.Health{Interval: 2 * time.Second}, Logger: w.log.With("at", name),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := auth.New(auth.Config{
		Broker: d.broker, Verifier: &token.Verifier{Keys: w.keys}, JWKS: w.keys.JWKS,
		Providers: map[string]credential.Provider{"guest": credential.Guest{}}, Logger: w.log.With("at", name),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.background(func(ctx context.Context) { _ = d.broker.Run(ctx) })
	w.stop = append(w.stop, d.broker.Close, w.serve(name+":80", a.Handler()))
	w.auths = append(w.auths, d)
}

// serve serves at the address and returns what ends that.
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
	w.born++
	m := &member{id: fmt.Sprintf("node-%d", w.born), gen: uint64(w.born)}
	m.store = &mortal{Store: w.store, chance: w.net.chance(m.id)}
	m.line = w.net.chance("commands of " + m.id)
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
	closeDoor := w.serve(m.id+":80", n.Handler())
	m.stop = func() {
		end, giveUp := context.WithTimeout(context.Background(), 30*time.Second)
		defer giveUp()
		if err := n.Shutdown(end); err != nil {
			w.app.fault("%s did not end: %v", m.id, err)
		}
		closeDoor()
		cancel()
		<-done
	}
	w.mu.Lock()
	w.nodes[m.id] = m
	w.mu.Unlock()
	return m
}

// alive returns the nodes that are not dead, by id.
func (w *world) alive() []*member {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []*member
	for i := range w.born {
		if m := w.nodes[fmt.Sprintf("node-%d", i+1)]; m != nil && !m.dead.Load() {
			list = append(list, m)
		}
	}
	return list
}

// gossip tells the brokers of the nodes, as the cluster does: of their state at
// once, of their load every second, of their death some seconds late.
func (w *world) gossip(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		for _, m := range w.alive() {
			state, live, attached := m.node.Load()
			if news := state != m.state; !news && i%20 != 0 {
				continue
			} else if news {
				m.state = state
				for _, d := range w.auths {
					d.broker.Update(proto.Peer{
						ID: m.id, Role: proto.RoleNode, State: state, URL: "ws://" + m.id + ":80" + proto.ConnectPath,
						Pool: proto.DefaultPool, Capacity: 1000, Live: live, Generation: m.gen,
					})
				}
			}
			m.seq++
			for _, d := range w.auths {
				mine, total := m.node.Arrived(d.issuer)
				d.broker.Report(proto.Report{
					ID: m.id, Generation: m.gen, Seq: m.seq, State: state, Capacity: 1000, Live: live, Attached: attached,
					Arrived: mine, ArrivedAll: total, Drain: m.node.Draining(),
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

// Call is the cluster's channel for commands. Now and then an answer is lost,
// and the command, which is repeated, arrives twice.
func (w *world) Call(ctx context.Context, to string, cmd proto.Command) (proto.CommandResult, error) {
	for {
		w.mu.Lock()
		m := w.nodes[to]
		w.mu.Unlock()
		if m != nil && !m.dead.Load() {
			if !sleep(ctx, m.line.delay()) {
				return proto.CommandResult{}, ctx.Err()
			}
			result := m.node.Command(ctx, "broker", cmd)
			if ctx.Err() == nil && m.line.float() > 0.1 {
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

// probe is the broker's look at a node's door.
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
	m.stop() // what is left of it reaches nobody
	for _, d := range w.auths {
		d.broker.Leave(m.id)
	}
}

// close ends the world.
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
