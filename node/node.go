package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/node/internal/lease"
	"github.com/usher-broker/usher/node/internal/lock"
	"github.com/usher-broker/usher/node/internal/wheel"
	"github.com/usher-broker/usher/node/internal/wire"
	"github.com/usher-broker/usher/proto"
)

// Node holds sessions and serves their connections. Create it with New, mount
// Handler, run Run, and end it with Shutdown. All methods are safe for concurrent
// use.
type Node struct {
	cfg         Config
	log         *slog.Logger
	metrics     *metrics
	leases      *lease.Keeper
	wire        *wire.Server
	checkpoints bool // sessions have checkpoints or snapshots
	acks        *ackQueue
	penalty     loadPenalty
	timers      *wheel.Wheel[*Session]
	idle        idleHeap       // the sessions that a rebalance may ask to leave
	drainQueue  drainQueue     // the sessions that a drain is to ask next
	wg          sync.WaitGroup // all goroutines of the node, all handshakes, and 1 until Shutdown
	releaseOnce sync.Once      // releases that 1

	draining      atomic.Bool
	attached      atomic.Int64
	held          atomic.Int64  // sessions that the application holds
	leaving       atomic.Int64  // sessions that are to leave for a rebalance
	kept          atomic.Int64  // payload bytes kept for detached sessions
	drainingConns sync.Map      // *conn of sessions that have moved away, still open
	departing     atomic.Int64  // moves in progress, and drainingConns
	stopping      chan struct{} // closed by Shutdown
	stopOnce      sync.Once
	goneOnce      sync.Once
	gone          chan struct{} // closed when wg is at 0 after Shutdown
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

// Running returns a channel that is closed when Run has started: from then on Drain
// works. It stays closed when Run has ended.
func (n *Node) Running() <-chan struct{} { return n.runs }

// ErrNotRunning is returned by Drain when Run is not running.
var ErrNotRunning = errors.New("node: Run is not running, so the node cannot drain")

// ErrStopping is returned by Undrain when the node stops and cannot go on.
var ErrStopping = errors.New("node: the node is stopping, so its drain cannot be canceled")

// tick returns how exact the timers of sessions are, and how often the node renews
// leases: often enough for the shortest interval, but rarely enough to cost next to nothing.
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

// A process that does not run when it should is overloaded, however few sessions it
// has. The node measures how late a timer fires. From lagFrom on it asks for fewer
// sessions. At lagFull it reaches maxLagPenalty.
const (
	lagInterval = 100 * time.Millisecond
	// lagIntervalEmpty is the interval of a node that holds no sessions: it is to use
	// next to no CPU.
	lagIntervalEmpty = time.Second
	lagFrom          = 100 * time.Millisecond
	lagFull          = time.Second
	// lagMemory is how many intervals the moving average of the lag covers, two seconds:
	// a single late timer of a node with sessions does not change their placement.
	lagMemory = 20
	// maxLagPenalty is below 100, because a slow node is better than none.
	maxLagPenalty = 90
)

// loadPenalty holds the measured lag and the load penalty.
type loadPenalty struct {
	lag     atomic.Int64 // moving average, in nanoseconds
	percent atomic.Int32
}

// addLag adds to the moving average how late a timer fired that was set for the
// interval. A longer interval counts as several short ones, so the average always
// covers the same time.
func (p *loadPenalty) addLag(d, interval time.Duration) {
	lag := time.Duration(p.lag.Load())
	for range interval / lagInterval {
		lag += (d - lag) / lagMemory
	}
	p.lag.Store(int64(lag))
}

// watchLoadPenalty updates the load penalty of the node until ctx ends: ten times a
// second, or once a second while the node holds no sessions.
func (n *Node) watchLoadPenalty(ctx context.Context) {
	timer := time.NewTimer(lagInterval)
	defer timer.Stop()
	for {
		interval := lagInterval
		if n.live() == 0 {
			interval = lagIntervalEmpty
		}
		began := time.Now()
		timer.Reset(interval)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		n.penalty.addLag(max(time.Since(began)-interval, 0), interval)
		n.penalty.percent.Store(int32(max(n.lagPenalty(), n.ownPenalty())))
	}
}

func (n *Node) lagPenalty() int {
	over := time.Duration(n.penalty.lag.Load()) - lagFrom
	return int(maxLagPenalty * min(max(float64(over)/float64(lagFull-lagFrom), 0), 1))
}

// ownPenalty returns the load penalty that the application sets, or 0.
func (n *Node) ownPenalty() int {
	if n.cfg.LoadPenalty == nil {
		return 0
	}
	return min(max(n.cfg.LoadPenalty(), 0), 100)
}

// LoadPenalty returns the percentage by which the node asks for fewer new sessions
// than its capacity allows: 0 if all is well, 100 if it can take none.
func (n *Node) LoadPenalty() uint8 { return uint8(n.penalty.percent.Load()) }

// LoadChanged returns a channel on which a value arrives after a change of what Load
// returns: a session was added or has ended, or a drain has begun or ended. Several
// changes may arrive as one value. The channel is for one receiver.
func (n *Node) LoadChanged() <-chan struct{} { return n.loadChanged }

// noteLoad records a change of the load. It does not block.
func (n *Node) noteLoad() { signal(n.loadChanged) }

// signal makes sure that c, which has a buffer of one, has a value. It does not block:
// if there is one, the receiver has not looked since the last signal.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// live returns how many sessions the node holds.
func (n *Node) live() int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.sessions)
}
