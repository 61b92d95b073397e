package process

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/session"
)

// countGossip publishes the metrics of a member's gossip.
func countGossip(reg prometheus.Registerer, health func() cluster.Health) {
	reg = prometheus.WrapRegistererWithPrefix("usher_gossip_", reg)
	gauge := func(name, help string, f func(cluster.Health) float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return f(health()) }))
	}
	counter := func(name, help string, f func(cluster.Health) uint64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(f(health())) }))
	}
	gauge("members", "Live members known here, this one included.", func(h cluster.Health) float64 { return float64(h.Members) })
	gauge("joined", "1 once this member has reached another, or has no --join.", func(h cluster.Health) float64 { return oneIf(h.Joined) })
	gauge("join_failing", "1 while the latest attempt to join failed.", func(h cluster.Health) float64 { return oneIf(h.LastError != nil) })
	gauge("health_score", "0 while this member keeps up with gossip, up to 7 when it is slow.", func(h cluster.Health) float64 { return float64(h.Score) })
	counter("reports_sent_total", "Load reports sent.", func(h cluster.Health) uint64 { return h.ReportsSent })
	counter("reports_received_total", "Load reports received.", func(h cluster.Health) uint64 { return h.ReportsReceived })
	counter("send_failures_total", "Messages that could not be sent.", func(h cluster.Health) uint64 { return h.SendsFailed })
	counter("calls_total", "Commands sent to other members.", func(h cluster.Health) uint64 { return h.Calls })
	counter("call_failures_total", "Commands that got no answer.", func(h cluster.Health) uint64 { return h.CallsFailed })
	counter("call_retries_total", "Commands sent again.", func(h cluster.Health) uint64 { return h.CallRetries })
	counter("late_answers_total", "Answers that came after their command had timed out.", func(h cluster.Health) uint64 { return h.LateAnswers })
	counter("served_total", "Commands of other members that were carried out.", func(h cluster.Health) uint64 { return h.Served })
	counter("duplicates_total", "Commands received again after they had been carried out.", func(h cluster.Health) uint64 { return h.Duplicates })
	counter("overloads_total", "Commands dropped because too many were in progress.", func(h cluster.Health) uint64 { return h.Overloads })
	counter("bad_members_total", "Times the metadata of a member was rejected: malformed, not signed, or an address that is not allowed.", func(h cluster.Health) uint64 { return h.BadMembers })
	counter("bad_messages_total", "Malformed messages.", func(h cluster.Health) uint64 { return h.BadMessages })
	counter("foreign_total", "Packets and connections dropped unread because their network is not in --gossip-networks.", func(h cluster.Health) uint64 { return h.Foreign })
	counter("strangers_total", "Reports and commands dropped because their sender is unknown or may not send them.", func(h cluster.Health) uint64 { return h.Strangers })
	counter("conflicts_total", "Times a member announced the id of another live member.", func(h cluster.Health) uint64 { return h.Conflicts })
	counter("warnings_total", "Warnings of the gossip library: packets that it could not decrypt, foreign or lost packets.", func(h cluster.Health) uint64 { return h.Warnings })
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// storeResult returns the metric label for the result of a store call.
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
