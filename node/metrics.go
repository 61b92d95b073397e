package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/proto"
)

// metrics counts everything that happens to sessions and messages: nothing is
// dropped, refused or reset without a number going up.
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

	parked        *prometheus.CounterVec
	moves         *prometheus.CounterVec
	goaways       *prometheus.CounterVec
	pushed        *prometheus.CounterVec
	drainCut      prometheus.Counter
	restoreFailed prometheus.Counter
	saveFailed    prometheus.Counter
	stalls        prometheus.Counter
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
	gauge("detached_bytes", "Bytes kept for detached sessions until they come back.", nil, func() float64 { return float64(n.kept.Load()) })
	gauge("capacity", "Sessions the node may hold.", nil, func() float64 { return float64(n.cfg.MaxSessions) })
	gauge("load_penalty", "Percentage by which the node asks for fewer sessions than its capacity says.", nil, func() float64 { return float64(n.LoadPenalty()) })
	gauge("lag_seconds", "How late timers fire, on average over two seconds.", nil,
		func() float64 { return time.Duration(n.penalty.lag.Load()).Seconds() })
	gauge("drain_remaining", "Sessions that a drain has still to give away; 0 when there is no drain.", nil,
		func() float64 { return drainOf(n).remaining })
	gauge("drain_held", "Of those, sessions that the application holds back.", nil,
		func() float64 { return drainOf(n).held })
	m := &metrics{
		attaches:      vector("attaches_total", "Connections that got a session, by result: new, resumed, taken_over (resumed while the old connection was open), moved (resumed with the stream of another node), reset.", "result"),
		refused:       vector("refusals_total", "Connections that got no session, by reason.", "reason"),
		resets:        vector("resets_total", "Streams that could not continue, by reason.", "reason"),
		closes:        vector("closes_total", "Connections closed by the node, by close code; fragments: cut for a message of too many.", "reason"),
		slowed:        vector("reads_slowed_total", "Times a connection was read more slowly because its client sent too much, by of what: bytes, messages, frames, pings.", "of"),
		ended:         vector("sessions_ended_total", "Sessions that ended on this node, by close code.", "reason"),
		dropped:       vector("volatile_dropped_total", "Volatile messages dropped because the session was detached or the client slow.", "reason"),
		received:      counter("messages_received_total", "Application messages from clients."),
		sent:          counter("messages_sent_total", "Application messages written to clients, resent ones included."),
		slow:          counter("send_slow_total", "Sends refused because the client had too much unconfirmed."),
		timeouts:      counter("timeouts_total", "Connections given up because nothing was heard."),
		panics:        counter("app_panics_total", "Panics of the application."),
		storeSkipped:  counter("store_skipped_total", "Resumes granted without the store, because it was away."),
		parked:        vector("parked_total", "Sessions that left in an orderly way, by whether their stream was laid down for the next node.", "result"),
		moves:         vector("moves_total", "Sessions that other members asked to be handed over, by result: done, held (by the application), busy (not decided in time), failed (the application gave no snapshot).", "result"),
		goaways:       vector("goaways_total", "Clients asked to go elsewhere, by reason.", "reason"),
		pushed:        vector("pushed_total", "Messages pushed by backends, by result.", "result"),
		drainCut:      counter("drain_cut_total", "Connections closed because the deadline of a drain had passed."),
		saveFailed:    counter("saves_failed_total", "Saves of sessions that the store did not take or the application gave no snapshot for."),
		stalls:        counter("stalls_total", "Times the process stood still so long that the store had to be asked which sessions were still here."),
		restoreFailed: counter("restores_failed_total", "Snapshots that the application did not take."),
		storeLost:     counter("store_lost_total", "Times the store was found to have lost records of sessions held here."),
		renewFailed:   counter("renewals_failed_total", "Renewals of sessions that the store did not take."),
	}
	// A rate over a counter needs its zero.
	for v, labels := range map[*prometheus.CounterVec][]string{
		m.attaches: {"new", "resumed", "taken_over", "moved", "reset"},
		m.resets:   {proto.ResetExpired, proto.ResetOverflow, proto.ResetNodeLost, proto.ResetUnknown},
		m.dropped:  {"detached", "slow"},
		m.parked:   {"ok", "failed", "busy"},
		m.moves:    {proto.MoveDone, proto.MoveHeld, proto.MoveBusy, "failed"},
		m.goaways:  {"drain", "rebalance"},
		m.pushed:   {proto.PushSent, proto.PushBuffered, proto.PushDropped, proto.PushFull, proto.PushUnavailable},
	} {
		for _, label := range labels {
			v.WithLabelValues(label)
		}
	}
	return m
}

// drainOf returns how far a drain of the node has come, for the gauges.
func drainOf(n *Node) (d struct{ remaining, held float64 }) {
	if p := n.Draining(); p != nil {
		d.remaining, d.held = float64(p.Remaining), float64(p.Held)
	}
	return d
}

func closeLabel(code proto.CloseCode) string {
	if code.Action() == proto.ActionApp {
		return "application" // its codes are unbounded, a metric's labels are not
	}
	if s := code.String(); s != "" {
		return s
	}
	return "other"
}
