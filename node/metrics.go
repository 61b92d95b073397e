package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/proto"
)

// metrics counts everything that happens to sessions and messages. Nothing is
// dropped, refused or reset without a counter that increases.
type metrics struct {
	attaches     *prometheus.CounterVec
	refused      *prometheus.CounterVec
	resets       *prometheus.CounterVec
	closes       *prometheus.CounterVec
	slowed       *prometheus.CounterVec
	ended        *prometheus.CounterVec
	dropped      *prometheus.CounterVec
	received     prometheus.Counter
	sent         prometheus.Counter
	slow         prometheus.Counter
	timeouts     prometheus.Counter
	panics       prometheus.Counter
	storeSkipped prometheus.Counter
	renewFailed  prometheus.Counter
	storeLost    prometheus.Counter

	persisted        *prometheus.CounterVec
	moves            *prometheus.CounterVec
	goaways          *prometheus.CounterVec
	pushed           *prometheus.CounterVec
	drainCut         prometheus.Counter
	restoreFailed    prometheus.Counter
	checkpointFailed prometheus.Counter
	stalls           prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, n *Node) *metrics {
	reg = prometheus.WrapRegistererWithPrefix("usher_node_", reg)
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		reg.MustRegister(v)
		return v
	}
	gauge := func(name, help string, labels prometheus.Labels, f func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, f))
	}
	attached := func() float64 { return float64(n.attached.Load()) }
	held := func() float64 { _, live, _ := n.Load(); return float64(live) }
	gauge("sessions", "Sessions held, by state.", prometheus.Labels{"state": "attached"}, attached)
	gauge("sessions", "Sessions held, by state.", prometheus.Labels{"state": "detached"},
		func() float64 { return max(held()-attached(), 0) })
	gauge("detached_bytes", "Bytes of payload kept for detached sessions until their clients are back.", nil, func() float64 { return float64(n.kept.Load()) })
	gauge("capacity", "Sessions the node may hold.", nil, func() float64 { return float64(n.cfg.MaxSessions) })
	gauge("load_penalty", "Percentage by which the node asks for fewer new sessions than its capacity allows.", nil, func() float64 { return float64(n.LoadPenalty()) })
	gauge("lag_seconds", "How late timers fire, on average over two seconds.", nil,
		func() float64 { return time.Duration(n.penalty.lag.Load()).Seconds() })
	gauge("drain_remaining", "Sessions that a drain has not handed over yet; 0 if there is no drain.", nil,
		func() float64 { return drainOf(n).remaining })
	gauge("drain_held", "Remaining sessions of a drain that the application holds.", nil,
		func() float64 { return drainOf(n).held })
	m := &metrics{
		attaches:         vector("attaches_total", "Connections that got a session, by result: new, resumed, taken_over (resumed while the old connection was open), moved (resumed with the stream of another node), reset.", "result"),
		refused:          vector("refusals_total", "Connections that got no session, by reason.", "reason"),
		resets:           vector("resets_total", "Streams that could not continue, by reason.", "reason"),
		closes:           vector("closes_total", "Connections closed by the node, by close code; fragments: closed because a message had too many of them.", "reason"),
		slowed:           vector("reads_slowed_total", "Times a connection was read more slowly because its client sent too much, by what exceeded its rate: bytes, messages, frames, pings.", "of"),
		ended:            vector("sessions_ended_total", "Sessions that ended on this node, by close code.", "reason"),
		dropped:          vector("volatile_dropped_total", "Volatile messages dropped because the session was detached or the client slow.", "reason"),
		received:         counter("messages_received_total", "Application messages from clients."),
		sent:             counter("messages_sent_total", "Application messages written to clients, resent ones included."),
		slow:             counter("send_slow_total", "Sends refused because too much was unconfirmed."),
		timeouts:         counter("timeouts_total", "Connections closed because the client sent nothing."),
		panics:           counter("app_panics_total", "Panics of the application."),
		storeSkipped:     counter("store_skipped_total", "Resumes granted while the store was unavailable."),
		persisted:        vector("sessions_persisted_total", "Sessions that left in an orderly way, by whether their state was persisted for the next node: ok; failed, busy: without their stream.", "result"),
		moves:            vector("moves_total", "Moves of sessions requested by other members, by result: done, held (by the application), busy (not decided in time), failed (no snapshot from the application).", "result"),
		goaways:          vector("goaways_total", "Clients asked to leave for another node, by reason.", "reason"),
		pushed:           vector("pushed_total", "Messages pushed by backends, by result.", "result"),
		drainCut:         counter("drain_cut_total", "Connections closed because the deadline of a drain had passed."),
		checkpointFailed: counter("checkpoints_failed_total", "Checkpoints and snapshots that the store did not accept or the application could not provide."),
		stalls:           counter("stalls_total", "Times the process did not run for so long that the node had to ask the store which sessions it still owned."),
		restoreFailed:    counter("restores_failed_total", "Snapshots that the application failed to restore."),
		storeLost:        counter("store_lost_total", "Times the store was found to have lost records of sessions held here."),
		renewFailed:      counter("renewals_failed_total", "Lease renewals that the store did not accept."),
	}
	// Labels start at 0, so that rate() sees the first increase.
	for v, labels := range map[*prometheus.CounterVec][]string{
		m.slowed:    {"bytes", "messages", "frames", "pings"},
		m.attaches:  {"new", "resumed", "taken_over", "moved", "reset"},
		m.resets:    {proto.ResetExpired, proto.ResetOverflow, proto.ResetNodeLost, proto.ResetUnknown},
		m.dropped:   {"detached", "slow"},
		m.persisted: {"ok", "failed", "busy"},
		m.moves:     {proto.MoveDone, proto.MoveHeld, proto.MoveBusy, "failed"},
		m.goaways:   {"drain", "rebalance"},
		m.pushed:    {proto.PushSent, proto.PushBuffered, proto.PushDropped, proto.PushFull, proto.PushUnavailable},
	} {
		for _, label := range labels {
			v.WithLabelValues(label)
		}
	}
	return m
}

// drainOf returns the progress of the node's drain, for the gauges.
func drainOf(n *Node) (d struct{ remaining, held float64 }) {
	if p := n.Draining(); p != nil {
		d.remaining, d.held = float64(p.Remaining), float64(p.Held)
	}
	return d
}
