package node

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"sync"

	"github.com/usher-broker/usher/node/internal/lease"
	"github.com/usher-broker/usher/node/internal/wheel"
	"github.com/usher-broker/usher/node/internal/wire"
	"github.com/usher-broker/usher/proto"
)

// New returns a node that holds no sessions yet. It returns an error if cfg is
// invalid.
func New(cfg Config) (*Node, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg:              cfg,
		log:              cfg.Logger.With("node", cfg.ID),
		sessions:         make(map[string]*Session),
		arrivalsByIssuer: make(map[string]uint64),
		acks:             newAckQueue(),
		stopping:         make(chan struct{}),
		gone:             make(chan struct{}),
		drained:          make(chan struct{}),
		persistSlots:     make(chan struct{}, persistConcurrency),
		persisting:       make(map[*Session]*persistAttempt),
		runs:             make(chan struct{}),
		loadChanged:      make(chan struct{}, 1),
	}
	n.timers = wheel.New[*Session](n.cfg.tick())
	n.drainQueue.wake = make(chan struct{}, 1)
	_, mover := cfg.App.(Mover)
	n.checkpoints = mover || cfg.Checkpoint
	n.wg.Add(1)
	n.metrics = newMetrics(cfg.Registry, n)
	n.wire = n.newWire()
	n.leases = lease.New(lease.Config{
		Node: cfg.ID, Instance: rand.Text(), Store: cfg.Store,
		StoreTimeout: cfg.StoreTimeout, RenewInterval: cfg.RenewInterval, TombstoneTTL: cfg.TombstoneTTL, Tick: cfg.tick(),
		Logger: n.log,
		Metrics: lease.Metrics{
			RenewFailed: n.metrics.renewFailed.Inc, StoreLost: n.metrics.storeLost.Inc,
			CheckpointFailed: n.metrics.checkpointFailed.Inc, Stalled: n.metrics.stalls.Inc,
		},
	})
	return n, nil
}

// newWire returns the server of the connections.
func (n *Node) newWire() *wire.Server {
	return wire.New(wire.Config{
		WriteTimeout: n.cfg.WriteTimeout,
		Rates:        wire.Rates(n.cfg.Rates),
		MaxText:      proto.MaxControlBytes,
		MaxBinary:    1 + n.cfg.Limits.MessageBytes,
		Slowed:       func(quantity string) { n.metrics.slowed.WithLabelValues(quantity).Inc() },
		Fragments:    n.metrics.closes.WithLabelValues("fragments").Inc,
		Logger:       n.log,
	})
}

// Handler returns the handler of the connect path, proto.ConnectPath. Serve it with
// an http.Server that speaks HTTP/1.1 and whose connections can be hijacked.
func (n *Node) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(proto.ConnectPath, n.connect)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		proto.WriteProblem(w, &proto.Problem{
			Status: http.StatusNotFound, Code: proto.ProblemNotFound,
			Detail: "This is an Usher node; clients attach at " + proto.ConnectPath + ".",
		})
	})
	return mux
}

// Run runs the background loops of the node until ctx ends: pings, resume windows,
// lease renewal, checkpoints and drains. No message passes while Run is not running.
// It returns nil, or an error if it is running already.
func (n *Node) Run(ctx context.Context) error {
	if !n.setRunning(true) {
		return errors.New("node: Run is already running")
	}
	defer n.setRunning(false)
	var loops sync.WaitGroup
	loops.Go(func() { n.leases.Run(ctx) })
	loops.Go(func() { n.acks.run(ctx) })
	loops.Go(func() { n.wire.Run(ctx) })
	loops.Go(func() { n.runGoAways(ctx) })
	loops.Go(func() { n.watchLoadPenalty(ctx) })
	n.watch(ctx)
	loops.Wait()
	return nil
}

// setRunning records that Run starts or ends. It returns false if the node is already
// in that state. When Run ends, a drain in progress ends too, and Drained is closed.
func (n *Node) setRunning(running bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running == running {
		return false
	}
	n.running = running
	if running {
		n.runsOnce.Do(func() { close(n.runs) })
	}
	if d := n.drain; !running && d != nil && !d.plan.Keep {
		n.closeDrained()
	}
	return true
}

// Shutdown persists the stream of every session, closes its connection with
// going_away, and waits until all goroutines of the node have ended or ctx ends; then
// it returns the cause of ctx. It neither asks clients to leave nor waits for
// sessions that the application holds: call Drain first for that. The clients resume
// at another node, or at the next start of this one, and no message is lost whose
// stream the store could persist. Keep serving the handler during Shutdown: it sends
// arriving clients to another node. Handshakes after it are refused. Sessions that
// the application has ended are ended in the store before Shutdown returns.
func (n *Node) Shutdown(ctx context.Context) error {
	defer n.closeDrained()
	n.draining.Store(true)
	n.noteLoad()
	n.stopOnce.Do(func() { close(n.stopping) })
	attempts := n.persistAll(ctx, n.all())
	// Before the waits, which a callback that does not return makes long: an end that
	// the store does not know may keep its user out.
	_ = n.leases.SendEnds(ctx) // FlushEnds below repeats what failed
	n.awaitPersisted(ctx, attempts...)
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.logStuck("session leaves without its stream: a callback of the application, or a move, has not finished", attempts)
	for _, s := range n.all() {
		n.endUnpersisted(s)
	}
	n.drainingConns.Range(func(c, _ any) bool {
		c.(*conn).endDraining()
		return true
	})
	n.leases.Close()
	n.mu.Lock()
	n.ended = true
	n.mu.Unlock()
	n.releaseOnce.Do(n.wg.Done)
	if err := n.leases.FlushEnds(ctx); err != nil {
		return err
	}
	// A wait for n.wg cannot be given up. If ctx ends first, this goroutine ends with the
	// last callback of the application, and the next Shutdown waits for the same one.
	n.goneOnce.Do(func() {
		go func() {
			n.wg.Wait()
			n.wire.Wait() // every connection was closed
			close(n.gone)
		}()
	})
	select {
	case <-n.gone:
		return n.leases.FlushEnds(ctx) // ends of callbacks that ran meanwhile
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// endUnpersisted ends a session that Shutdown could not persist in time.
func (n *Node) endUnpersisted(s *Session) {
	n.mu.RLock()
	a := n.persisting[s]
	n.mu.RUnlock()
	result := "failed"
	if a != nil && a.isStuck() {
		result = "busy"
	}
	if n.end(s, proto.CloseGoingAway, "", !n.cfg.Checkpoint) { // output without a checkpoint must not go out
		n.metrics.persisted.WithLabelValues(result).Inc()
	}
}
