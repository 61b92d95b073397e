package main

import (
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
)

// brokerHooks count what a broker decides.
func brokerHooks(reg prometheus.Registerer) broker.Hooks {
	vector := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "usher", Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	assigned := vector("assignments_total", "Sessions opened, and refusals, by result.", "result")
	reassigned := vector("reassignments_total", "Sessions that asked where to go, by result and, where it is ok, by why they are where they are.", "result", "reason")
	ended := vector("ends_total", "Sessions ended by logout or by an operator, by result.", "result")
	commands := vector("commands_total", "Commands to nodes, by operation and status.", "op", "status")
	probes := vector("probes_total", "Looks at the addresses of nodes, by result: ok, refused, timeout, tls, dns, answer (not a node's), other_node, failed.", "result")
	waited := vector("waiting_total", "Logins in the waiting room, by pool and what became of them.", "pool", "what")
	waiting := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "usher", Name: "waiting", Help: "Logins that wait for room, by pool, as of the last that asked here."}, []string{"pool"})
	reg.MustRegister(waiting)
	picks := prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "usher", Name: "placement_seconds", Help: "Time of one pick of a node, the wait for the table included.",
		Buckets: []float64{.000001, .000005, .00001, .00005, .0001, .0005, .001, .005, .01, .1},
	})
	reg.MustRegister(picks)
	for _, r := range broker.Results { // a rate over a counter needs its zero
		assigned.WithLabelValues(string(r))
		ended.WithLabelValues(string(r))
	}
	for _, r := range probeResults {
		probes.WithLabelValues(r)
	}
	for _, r := range broker.Reasons {
		reassigned.WithLabelValues(string(broker.OK), string(r))
	}
	return broker.Hooks{
		Assigned:   func(r broker.Result) { assigned.WithLabelValues(string(r)).Inc() },
		Ended:      func(r broker.Result) { ended.WithLabelValues(string(r)).Inc() },
		Reassigned: func(r broker.Result, why broker.Reason) { reassigned.WithLabelValues(string(r), string(why)).Inc() },
		Picked:     func(_ broker.Result, took time.Duration) { picks.Observe(took.Seconds()) },
		Probed:     func(_ string, err error) { probes.WithLabelValues(probeResult(err)).Inc() },
		Waited: func(pool string, what broker.Waited, n int) {
			waited.WithLabelValues(pool, string(what)).Inc()
			waiting.WithLabelValues(pool).Set(float64(n))
		},
		Commanded: func(op string, status broker.CommandStatus) { commands.WithLabelValues(op, string(status)).Inc() },
	}
}

// nodeCollector publishes what a broker makes of the nodes. Nodes that clients
// can reach have no series of their own: there may be a thousand.
type nodeCollector struct {
	nodes func() []placement.NodeView
}

var (
	nodesDesc       = prometheus.NewDesc("usher_nodes", "Nodes by what probes of their addresses say: reached, unreachable (they could be before), shut (nobody ever got in), untried.", []string{"reach"}, nil)
	eligibleDesc    = prometheus.NewDesc("usher_nodes_eligible", "Nodes that are given sessions.", nil, nil)
	unreachableDesc = prometheus.NewDesc("usher_node_unreachable", "1 for each node at whose address no client gets in, as far as this process can see.", []string{"node", "why"}, nil)
)

// Describe implements prometheus.Collector.
func (c *nodeCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- nodesDesc
	ch <- eligibleDesc
	ch <- unreachableDesc
}

// Collect implements prometheus.Collector.
func (c *nodeCollector) Collect(ch chan<- prometheus.Metric) {
	eligible, reach := 0, map[placement.Reach]int{}
	for _, v := range c.nodes() {
		reach[v.Reach]++
		if v.Eligible {
			eligible++
		}
		if v.Reach == placement.Unreachable || v.Reach == placement.Shut {
			ch <- prometheus.MustNewConstMetric(unreachableDesc, prometheus.GaugeValue, 1, v.Peer.ID, strings.ToValidUTF8(v.Unreached, "?"))
		}
	}
	for _, r := range []placement.Reach{placement.Reached, placement.Unreachable, placement.Shut, placement.Unproven} {
		ch <- prometheus.MustNewConstMetric(nodesDesc, prometheus.GaugeValue, float64(reach[r]), r.String())
	}
	ch <- prometheus.MustNewConstMetric(eligibleDesc, prometheus.GaugeValue, float64(eligible))
}

// countGossip publishes how a member fares in the cluster.
func countGossip(reg prometheus.Registerer, health func() cluster.Health) {
	reg = prometheus.WrapRegistererWithPrefix("usher_gossip_", reg)
	gauge := func(name, help string, f func(cluster.Health) float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return f(health()) }))
	}
	counter := func(name, help string, f func(cluster.Health) uint64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(f(health())) }))
	}
	gauge("members", "Live members known here, this one included.", func(h cluster.Health) float64 { return float64(h.Members) })
	gauge("joined", "1 once this member has been with another, or had nobody to join.", func(h cluster.Health) float64 { return oneIf(h.Joined) })
	gauge("join_failing", "1 while the latest attempt to join failed.", func(h cluster.Health) float64 { return oneIf(h.LastError != nil) })
	gauge("health_score", "0 while this member keeps up with gossip; up to 7 when it is slow.", func(h cluster.Health) float64 { return float64(h.Score) })
	counter("reports_sent_total", "Load reports sent.", func(h cluster.Health) uint64 { return h.ReportsSent })
	counter("reports_received_total", "Load reports received.", func(h cluster.Health) uint64 { return h.ReportsReceived })
	counter("send_failures_total", "Messages that could not be sent.", func(h cluster.Health) uint64 { return h.SendsFailed })
	counter("calls_total", "Commands sent to other members.", func(h cluster.Health) uint64 { return h.Calls })
	counter("call_failures_total", "Commands that got no answer.", func(h cluster.Health) uint64 { return h.CallsFailed })
	counter("call_retries_total", "Commands sent again.", func(h cluster.Health) uint64 { return h.CallRetries })
	counter("late_answers_total", "Answers that nobody waited for any more.", func(h cluster.Health) uint64 { return h.LateAnswers })
	counter("served_total", "Commands of other members carried out.", func(h cluster.Health) uint64 { return h.Served })
	counter("duplicates_total", "Commands that had been carried out before.", func(h cluster.Health) uint64 { return h.Duplicates })
	counter("overloads_total", "Commands dropped because too many were being carried out.", func(h cluster.Health) uint64 { return h.Overloads })
	counter("bad_members_total", "Times the metadata of a member was not believed: not understood, not signed, an address that is not allowed.", func(h cluster.Health) uint64 { return h.BadMembers })
	counter("bad_messages_total", "Messages that were not understood.", func(h cluster.Health) uint64 { return h.BadMessages })
	counter("foreign_total", "Packets and connections dropped unread, from networks that are none of --gossip-networks.", func(h cluster.Health) uint64 { return h.Foreign })
	counter("strangers_total", "Reports and commands of members that are unknown or may not send them.", func(h cluster.Health) uint64 { return h.Strangers })
	counter("conflicts_total", "Claims to the id of another live member.", func(h cluster.Health) uint64 { return h.Conflicts })
	counter("warnings_total", "Warnings of the gossip library: undecryptable, foreign or lost packets.", func(h cluster.Health) uint64 { return h.Warnings })
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// storeResult is the label of how a call of the store went.
func storeResult(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, session.ErrUnavailable):
		return "unavailable"
	case errors.Is(err, session.ErrNotFound):
		return "not_found"
	case errors.Is(err, session.ErrEnded):
		return "ended"
	case errors.Is(err, session.ErrMoved):
		return "moved"
	case errors.Is(err, session.ErrExists):
		return "exists"
	}
	return "failed"
}
