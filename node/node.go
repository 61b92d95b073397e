package node

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/node/internal/lock"
	"github.com/usher-broker/usher/proto"
)

// Node holds sessions and serves their connections. Create it with New, mount
// Handler, run Run, and end it with Shutdown. All methods are safe for concurrent
// use.
type Node struct {
	cfg          Config
	instance     string // random; identifies this start of the node
	log          *slog.Logger
	metrics      *metrics
	renewer      *leaseRenewer
	checkpointer *checkpointer
	stallGuard   *stallGuard
	meter        *meter
	acks         *ackQueue
	idlePoller   *idlePoller
	penalty      loadPenalty
	wg           sync.WaitGroup // all goroutines of the node, all handshakes, and 1 until Shutdown
	releaseOnce  sync.Once      // releases that 1

	draining      atomic.Bool
	attached      atomic.Int64
	kept          atomic.Int64  // payload bytes kept for detached sessions
	drainingConns sync.Map      // *conn of sessions that have moved away, still open
	stopping      chan struct{} // closed by Shutdown
	stopOnce      sync.Once
	drained       chan struct{} // closed when a drain has ended
	drainedOnce   sync.Once
	persistSlots  chan struct{} // limits the attempts to persist sessions, see persistConcurrency
	runs          chan struct{} // closed when Run starts
	runsOnce      sync.Once
	loadChanged   chan struct{} // see LoadChanged; buffered

	mu               lock.RWMutex[lock.Node] // protects the following
	sessions         map[string]*Session
	arrivalsByIssuer map[string]uint64 // sessions that arrived, by the issuer of their token
	arrivals         uint64
	running          bool // Run is running
	closed           bool
	ended            bool   // Shutdown waits or has returned: from now on only goroutines counted in wg may add to it
	drain            *drain // nil if there is no drain
	shed             shed
	persisting       map[*Session]*persistAttempt // attempts in progress
}

// New returns a node that holds no sessions yet. It returns an error if cfg is
// invalid.
func New(cfg Config) (*Node, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg:              cfg,
		instance:         rand.Text(),
		log:              cfg.Logger.With("node", cfg.ID),
		sessions:         make(map[string]*Session),
		arrivalsByIssuer: make(map[string]uint64),
		stallGuard:       newStallGuard(),
		acks:             newAckQueue(),
		idlePoller:       newIdlePoller(),
		stopping:         make(chan struct{}),
		drained:          make(chan struct{}),
		persistSlots:     make(chan struct{}, persistConcurrency),
		persisting:       make(map[*Session]*persistAttempt),
		runs:             make(chan struct{}),
		loadChanged:      make(chan struct{}, 1),
	}
	n.checkpointer = newCheckpointer(n)
	n.wg.Add(1)
	n.metrics = newMetrics(cfg.Registry, n)
	n.meter = newMeter(cfg.Rates, n.metrics, n.log)
	n.renewer = newLeaseRenewer(n)
	return n, nil
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
	loops.Go(func() { n.watchStalls(ctx) })
	loops.Go(func() { n.renewer.run(ctx) })
	loops.Go(func() { n.checkpointer.run(ctx) })
	loops.Go(func() { n.acks.run(ctx) })
	loops.Go(func() { n.idlePoller.run(ctx) })
	loops.Go(func() { n.runGoAways(ctx) })
	loops.Go(func() { n.watchLoadPenalty(ctx) })
	n.watch(ctx)
	loops.Wait()
	return nil
}

// Running returns a channel that is closed when Run has started: from then on Drain
// works. It stays closed when Run has ended.
func (n *Node) Running() <-chan struct{} { return n.runs }

// ErrNotRunning is returned by Drain when Run is not running.
var ErrNotRunning = errors.New("node: Run is not running, so the node cannot drain")

// ErrStopping is returned by Undrain when the node stops and cannot go on.
var ErrStopping = errors.New("node: the node is stopping, so its drain cannot be canceled")

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

// tick returns how often the node checks its sessions and renews leases: often enough
// for the shortest interval, but rarely enough to cost next to nothing.
func (c *Config) tick() time.Duration {
	return min(time.Second, c.PingInterval/4, max(c.ResumeWindow/4, 10*time.Millisecond), c.RenewInterval/4)
}

// State returns whether the node accepts new sessions.
func (n *Node) State() proto.NodeState {
	if n.draining.Load() {
		return proto.StateDraining
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if len(n.sessions) >= n.cfg.MaxSessions {
		return proto.StateFull
	}
	return proto.StateReady
}

// Load returns the state of the node, the number of sessions it holds, and how many
// of these are attached.
func (n *Node) Load() (state proto.NodeState, live, attached uint32) {
	state = n.State()
	n.mu.RLock()
	defer n.mu.RUnlock()
	return state, uint32(len(n.sessions)), uint32(n.attached.Load())
}

// Arrived returns how many sessions have arrived since the node was created: mine
// with a token of the issuer, all with any token.
func (n *Node) Arrived(issuer string) (mine, all uint64) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.arrivalsByIssuer[issuer], n.arrivals
}

// maxIssuers limits the size of Node.arrivalsByIssuer. Issuers come from verified
// tokens, so only restarts of auth processes add entries.
const maxIssuers = 1024

// enter adds a handshake to n.wg, so that Shutdown waits for it. It returns false,
// and adds nothing, if the node is closed.
func (n *Node) enter() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.closed {
		return false
	}
	n.wg.Add(1)
	return true
}

// logsInfo reports whether the log is enabled for frequent events: even the arguments
// of a discarded log line cost time.
func (n *Node) logsInfo() bool { return n.log.Enabled(context.Background(), slog.LevelInfo) }

// session returns the session with the id, or nil if the node does not hold it.
func (n *Node) session(id string) *Session {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.sessions[id]
}

// Sessions calls f for every session held, in no particular order, until f returns
// false.
func (n *Node) Sessions(f func(*Session) bool) {
	for _, s := range n.all() {
		if !f(s) {
			return
		}
	}
}

func (n *Node) all() []*Session {
	n.mu.RLock()
	defer n.mu.RUnlock()
	list := make([]*Session, 0, len(n.sessions))
	for _, s := range n.sessions {
		list = append(list, s)
	}
	return list
}
