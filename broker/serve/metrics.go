package serve

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/nodes"
)

// hooks count the decisions of a broker.
func hooks(reg prometheus.Registerer) broker.Hooks {
	vector := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "usher", Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	assigned := vector("assignments_total", "Sessions opened, and refusals, by result.", "result")
	reassigned := vector("reassignments_total", "Requests to /v1/reconnect, by result and, if that is ok, by the reason for the node.", "result", "reason")
	ended := vector("ends_total", "Sessions ended by logout or by an operator, by result.", "result")
	commands := vector("commands_total", "Commands to nodes, by operation and status.", "op", "status")
	probes := vector("probes_total", "Probes of nodes, by result: ok, refused, timeout, tls, dns, answer (not a node's), other_node, failed.", "result")
	waited := vector("waiting_total", "Logins in the waiting room, by pool and what happened to them.", "pool", "what")
	waiting := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "usher", Name: "waiting", Help: "Logins that wait for capacity, by pool, as of the last that asked this process."}, []string{"pool"})
	reg.MustRegister(waiting)
	picks := prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "usher", Name: "placement_seconds", Help: "Time to pick a node, including the wait for the lock of the node table.",
		Buckets: []float64{.000001, .000005, .00001, .00005, .0001, .0005, .001, .005, .01, .1},
	})
	reg.MustRegister(picks)
	for _, r := range broker.Results { // so that a rate starts at zero
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

// nodeCollector publishes what a broker knows of the nodes. Only nodes that
// clients cannot reach have a series of their own: there may be a thousand nodes.
type nodeCollector struct {
	nodes func() []nodes.View
}

var (
	nodesDesc       = prometheus.NewDesc("usher_nodes", "Nodes by the result of probes: reached, unreachable (reached before), never_reached, untried.", []string{"reach"}, nil)
	eligibleDesc    = prometheus.NewDesc("usher_nodes_eligible", "Nodes that get sessions.", nil, nil)
	unreachableDesc = prometheus.NewDesc("usher_node_unreachable", "1 for each node that this process cannot reach at its public address.", []string{"node", "why"}, nil)
)

// Describe implements prometheus.Collector.
func (c *nodeCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- nodesDesc
	ch <- eligibleDesc
	ch <- unreachableDesc
}

// Collect implements prometheus.Collector.
func (c *nodeCollector) Collect(ch chan<- prometheus.Metric) {
	eligible, reach := 0, map[nodes.Reach]int{}
	for _, v := range c.nodes() {
		reach[v.Reach]++
		if v.Eligible() {
			eligible++
		}
		if v.Reach == nodes.Unreachable || v.Reach == nodes.NeverReached {
			ch <- prometheus.MustNewConstMetric(unreachableDesc, prometheus.GaugeValue, 1, v.Peer.ID, strings.ToValidUTF8(v.Unreached, "?"))
		}
	}
	for _, r := range []nodes.Reach{nodes.Reached, nodes.Unreachable, nodes.NeverReached, nodes.Untried} {
		ch <- prometheus.MustNewConstMetric(nodesDesc, prometheus.GaugeValue, float64(reach[r]), r.String())
	}
	ch <- prometheus.MustNewConstMetric(eligibleDesc, prometheus.GaugeValue, float64(eligible))
}
