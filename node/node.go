package node

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Node holds sessions and serves their connections. Make one with New, mount
// Handler, run Run, and end it with Shutdown. All methods are safe for
// concurrent use.
type Node struct {
	cfg      Config
	instance string // of this start
	log      *slog.Logger
	metrics  *metrics
	ledger   *ledger
	saver    *saver
	fence    *fence
	meter    *meter
	acks     *acks
	idlers   *idlers
	penalty  loadPenalty
	goes     sync.WaitGroup // every goroutine of the node, every handshake, and 1 until Shutdown
	release  sync.Once      // of that 1

	draining  atomic.Bool
	attached  atomic.Int64
	kept      atomic.Int64  // bytes kept for detached sessions
	lingering sync.Map      // *conn of sessions that have moved, still open
	stopping  chan struct{} // closed by Shutdown, by stop
	stop      sync.Once
	drained   chan struct{} // closed when a drain has ended

	mu       sync.RWMutex // protects the following
	sessions map[string]*Session
	landed   map[string]uint64 // sessions arrived, by the issuer of their token
	arrived  uint64
	closed   bool
	ended    bool   // Shutdown waits, or has: nothing is added to goes any more but by what is in it
	drain    *drain // nil when there is none
	shed     shed
}

// New returns a node that serves nobody yet.
func New(cfg Config) (*Node, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg:      cfg,
		instance: rand.Text(),
		log:      cfg.Logger.With("node", cfg.ID),
		sessions: make(map[string]*Session),
		landed:   make(map[string]uint64),
		fence:    newFence(),
		acks:     newAcks(),
		idlers:   newIdlers(),
		stopping: make(chan struct{}),
		drained:  make(chan struct{}),
	}
	n.saver = newSaver(n)
	n.goes.Add(1)
	n.metrics = newMetrics(cfg.Registry, n)
	n.meter = newMeter(cfg.Rates, n.metrics, n.log)
	n.ledger = newLedger(n)
	return n, nil
}

// Handler serves the connect path, proto.ConnectPath. It needs an http.Server
// of HTTP/1.1 whose connections can be hijacked.
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

// Run keeps connections alive, sessions within their windows and the store
// informed, until ctx ends. Without it no messages pass.
func (n *Node) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { n.guard(ctx) })
	loops.Go(func() { n.ledger.run(ctx) })
	loops.Go(func() { n.saver.run(ctx) })
	loops.Go(func() { n.acks.run(ctx) })
	loops.Go(func() { n.idlers.run(ctx) })
	loops.Go(func() { n.leaving(ctx) })
	loops.Go(func() { n.watchLoadPenalty(ctx) })
	n.watch(ctx)
	loops.Wait()
	return nil
}

// tick is how often watch and the ledger look around: often enough for the
// shortest interval, seldom enough to cost nothing.
func (c *Config) tick() time.Duration {
	return min(time.Second, c.PingInterval/4, max(c.ResumeWindow/4, 10*time.Millisecond), c.RenewInterval/4)
}

// State says whether the node may be given sessions.
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

// Load returns the state and the number of sessions held, and of those that
// are attached.
func (n *Node) Load() (state proto.NodeState, live, attached uint32) {
	state = n.State()
	n.mu.RLock()
	defer n.mu.RUnlock()
	return state, uint32(len(n.sessions)), uint32(n.attached.Load())
}

// Arrived returns how many sessions arrived with a token of the issuer, and in
// all, since the node was made.
func (n *Node) Arrived(issuer string) (mine, all uint64) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.landed[issuer], n.arrived
}

// maxIssuers bounds Node.landed. Issuers come from verified tokens, so only
// restarts of auths add to it.
const maxIssuers = 1024

// enter counts a handshake that Shutdown waits for, unless the node is closed.
func (n *Node) enter() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.closed {
		return false
	}
	n.goes.Add(1)
	return true
}

// logs reports whether what happens all the time is logged: even the arguments of a
// line that nobody reads cost something.
func (n *Node) logs() bool { return n.log.Enabled(context.Background(), slog.LevelInfo) }

// session returns the session that is held under the id, or nil.
func (n *Node) session(id string) *Session {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.sessions[id]
}

// Sessions calls f for every session held, in no order, until f returns false.
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
