package simulate

import (
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/proto"
)

type simNode struct {
	id           string
	capacity     int
	live         int
	inFlight     int // picked and going to arrive; only the oracle knows it
	dead         bool
	draining     bool
	joined       bool // started during the measurement
	generation   uint64
	arrived      []uint64 // sessions, by broker
	arrivedAll   uint64
	seq          uint64
	reportedLive int // live as of the last report
	reportedAt   int
	thisSecond   int // sessions that arrived in the current second
	peak         int // most arrivals in a second
}

type arrival struct{ node, broker int }

type delivery struct {
	broker int
	report proto.Report
}

type sim struct {
	rng     *rand.Rand
	nodes   []*simNode
	brokers []broker // empty if the oracle decides
	weights []float64
	by      chooser

	// The scenario.
	rate    func(ms int) float64 // logins a second
	stay    float64              // mean duration of a session in seconds
	abandon float64              // fraction of clients that never connect
	connect func() int           // ms from pick to arrival
	lag     func(broker int) int // ms a report takes
	at      map[int]func(s *sim) // events, by time
	everyMS func(s *sim)         // called every millisecond; may be nil

	ms       int
	arrivals map[int][]arrival
	reports  map[int][]delivery
	now      time.Time

	refused   int     // by a broker or a full node
	misplaced int     // sent to a dead node
	worst     float64 // highest max/mean since reset
	last      float64
	trace     []float64 // last, every 100 ms
	keepTrace bool
	users     int
}

func newSim(seed uint64, nodes, brokers, capacity int, fill func(r *rand.Rand) float64) *sim {
	r := rand.New(rand.NewPCG(seed, 1))
	s := &sim{
		rng: r, stay: 600, abandon: 0.05, rate: func(int) float64 { return 0 },
		connect:  func() int { return 50 + r.IntN(450) },
		lag:      func(int) int { return 1 + r.IntN(20) },
		at:       map[int]func(*sim){},
		arrivals: map[int][]arrival{}, reports: map[int][]delivery{},
		now: time.Unix(1_700_000_000, 0),
	}
	for range brokers {
		s.weights = append(s.weights, 1)
	}
	for range nodes {
		s.add(capacity, int(fill(r)*float64(capacity)))
	}
	s.rate = func(int) float64 { return float64(s.live()) / s.stay / (1 - s.abandon) }
	return s
}

func (s *sim) live() (n int) {
	for _, x := range s.nodes {
		n += x.live
	}
	return n
}

func (s *sim) add(capacity, live int) *simNode {
	n := &simNode{
		id: "n" + strconv.Itoa(len(s.nodes)), capacity: capacity, live: live,
		arrived: make([]uint64, len(s.weights)), reportedLive: live, reportedAt: s.ms - s.rng.IntN(1000), generation: 1,
	}
	s.nodes = append(s.nodes, n)
	for _, b := range s.brokers {
		b.Update(s.now, n.peer())
	}
	return n
}

func (n *simNode) peer() proto.Peer {
	return proto.Peer{
		ID: n.id, Role: proto.RoleNode, State: n.state(), Capacity: uint32(n.capacity),
		Live: uint32(n.live), Generation: n.generation,
	}
}

func (n *simNode) state() proto.NodeState {
	if n.draining {
		return proto.StateDraining
	}
	return proto.StateReady
}

func (s *sim) broker() int {
	var sum float64
	for _, w := range s.weights {
		sum += w
	}
	x := s.rng.Float64() * sum
	for i, w := range s.weights {
		if x -= w; x < 0 {
			return i
		}
	}
	return len(s.weights) - 1
}

// send makes a client connect to a node. Some never arrive.
func (s *sim) send(node, broker int) {
	if s.rng.Float64() < s.abandon {
		return
	}
	s.nodes[node].inFlight++
	at := s.ms + max(1, s.connect())
	s.arrivals[at] = append(s.arrivals[at], arrival{node, broker})
}

func (s *sim) place(h placement.Hints) {
	if s.by.pick(s, h) < 0 {
		s.refused++
	}
}

// run continues the simulation for that long.
func (s *sim) run(by chooser, seconds float64) {
	if p, ok := by.(policies); ok && s.brokers == nil {
		p.start(s)
	}
	s.by = by
	for end := s.ms + int(seconds*1000); s.ms < end; {
		s.ms++
		s.now = s.now.Add(time.Millisecond)
		s.step()
	}
}

func (s *sim) step() {
	if f := s.at[s.ms]; f != nil {
		f(s)
	}
	if s.everyMS != nil {
		s.everyMS(s)
	}
	for range s.poisson(s.rate(s.ms) / 1000) {
		s.users++
		s.place(placement.Hints{Key: strconv.Itoa(s.users)})
	}
	for _, a := range s.arrivals[s.ms] {
		s.arrive(a)
	}
	delete(s.arrivals, s.ms)
	for _, d := range s.reports[s.ms] {
		s.brokers[d.broker].Report(s.now, d.report)
	}
	delete(s.reports, s.ms)
	for i, b := range s.brokers {
		if (s.ms+7*i)%100 == 0 {
			b.Picker.Tick(s.now)
		}
	}
	if s.ms%50 == 0 {
		s.nodesStep()
	}
	if s.ms%1000 == 0 {
		for _, n := range s.nodes {
			n.peak, n.thisSecond = max(n.peak, n.thisSecond), 0
		}
	}
}

func (s *sim) arrive(a arrival) {
	n := s.nodes[a.node]
	n.inFlight--
	switch {
	case n.dead:
		s.misplaced++
		s.place(placement.Hints{Exclude: n.id})
	case n.live >= n.capacity:
		s.refused++
	default:
		n.live++
		n.arrived[a.broker]++
		n.arrivedAll++
		n.thisSecond++
	}
}

// nodesStep makes clients leave and nodes report, and measures max/mean.
func (s *sim) nodesStep() {
	var most, live, capacity float64
	for _, n := range s.nodes {
		if n.dead {
			continue
		}
		if n.draining {
			s.leave(n)
		}
		n.live = max(0, n.live-s.poisson(float64(n.live)*0.05/s.stay))
		moved := n.live - n.reportedLive
		if s.ms-n.reportedAt >= 1000 || max(moved, -moved)*100 >= n.capacity {
			s.report(n)
		}
		if n.draining { // its sessions leave, so its load is not the policy's choice
			continue
		}
		most = max(most, float64(n.live)/float64(n.capacity))
		live += float64(n.live)
		capacity += float64(n.capacity)
	}
	s.last = most * capacity / max(live, 1)
	s.worst = max(s.worst, s.last)
	if s.keepTrace && s.ms%100 == 0 {
		s.trace = append(s.trace, s.last)
	}
}

// drainTime is the time over which a draining node asks its sessions to leave, in
// ms.
const drainTime = 5000

// leave moves a part of a draining node's sessions to other nodes. It is called
// every 50 ms.
func (s *sim) leave(n *simNode) {
	few := max(n.live*50*3/drainTime, min(n.live, 1)) // nearly all leave within drainTime
	for range few {
		n.live--
		s.place(placement.Hints{Exclude: n.id})
	}
}

func (s *sim) drain(i int) {
	n := s.nodes[i]
	n.draining = true
	for _, b := range s.brokers {
		b.Update(s.now, n.peer())
	}
	s.report(n)
}

// restart restarts a dead node.
func (s *sim) restart(i int) {
	n := s.nodes[i]
	n.dead, n.live, n.seq = false, 0, 0
	n.generation++
	n.arrivedAll, n.reportedLive, n.reportedAt = 0, 0, s.ms
	clear(n.arrived)
	for _, b := range s.brokers {
		b.Update(s.now, n.peer())
	}
}

func (s *sim) report(n *simNode) {
	n.seq++
	n.reportedLive, n.reportedAt = n.live, s.ms
	for b := range s.brokers {
		at := s.ms + max(1, s.lag(b))
		s.reports[at] = append(s.reports[at], delivery{b, proto.Report{
			ID: n.id, Generation: n.generation, Seq: n.seq, State: n.state(), Capacity: uint32(n.capacity),
			Live: uint32(n.live), Arrived: n.arrived[b], ArrivedAll: n.arrivedAll,
		}})
	}
}

// kill ends a node. Its clients reconnect within two seconds; the brokers learn
// of the death six seconds later.
func (s *sim) kill(i int) {
	n := s.nodes[i]
	n.dead = true
	for range n.live {
		at := s.ms + 1 + s.rng.IntN(2000)
		n.inFlight++
		s.arrivals[at] = append(s.arrivals[at], arrival{i, 0})
	}
	s.misplaced -= n.live
	n.live = 0
	s.after(6000, func() {
		if !n.dead {
			return
		}
		for _, b := range s.brokers {
			b.Remove(n.id)
		}
	})
}

// after calls f in that many milliseconds, after the events that are already
// scheduled for that time.
func (s *sim) after(ms int, f func()) {
	ms = max(ms, 1)
	at, before := s.ms+ms, s.at[s.ms+ms]
	s.at[at] = func(s *sim) {
		if before != nil {
			before(s)
		}
		f()
	}
}

// share returns the node's utilisation relative to the mean.
func (s *sim) share(n *simNode) float64 {
	var live, capacity float64
	for _, x := range s.nodes {
		if !x.dead {
			live += float64(x.live)
			capacity += float64(x.capacity)
		}
	}
	return float64(n.live) / float64(n.capacity) / (live / capacity)
}

// measure resets the counters and continues the simulation for that long.
func (s *sim) measure(by chooser, seconds float64) *sim {
	s.worst, s.refused, s.misplaced = 0, 0, 0
	s.run(by, seconds)
	return s
}

func (s *sim) poisson(mean float64) int {
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*s.rng.NormFloat64())))
	}
	k := 0
	for p := s.rng.Float64(); p > math.Exp(-mean); p *= s.rng.Float64() {
		k++
	}
	return k
}
