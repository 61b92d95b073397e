package auth

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the counters of the login API. A result is "ok" or the code of a problem.
type metrics struct {
	logins        *prometheus.CounterVec   // by method and result
	reconnects    *prometheus.CounterVec   // by result
	logouts       *prometheus.CounterVec   // by result
	queue         *prometheus.CounterVec   // by result: requests of waiting logins
	refused       *prometheus.CounterVec   // every problem answered, by code
	throttled     prometheus.Counter       // logins refused before their credentials were checked
	verifySeconds *prometheus.HistogramVec // by method, with the wait for a free thread to hash
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "usher", Subsystem: "auth", Name: name, Help: help}, labels)
	}
	m := &metrics{
		logins:     counter("logins_total", "Logins by method and result.", "method", "result"),
		reconnects: counter("reconnects_total", "Reconnects by result.", "result"),
		logouts:    counter("logouts_total", "Logouts by result.", "result"),
		queue:      counter("queue_total", "Requests of logins in the queue, by result: waits, ok, or the code of a problem.", "result"),
		refused:    counter("refused_total", "Requests answered with a problem, by its code.", "code"),
		throttled: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "usher", Subsystem: "auth", Name: "throttled_total",
			Help: "Logins refused because of earlier failures, before their credentials were checked.",
		}),
		verifySeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "usher", Subsystem: "auth", Name: "credential_seconds",
			Help:    "Time to verify credentials, with the wait for a free thread to hash.",
			Buckets: []float64{.0005, .002, .01, .02, .04, .08, .16, .32, .64, 1.28, 2.56},
		}, []string{"method"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.logins, m.reconnects, m.logouts, m.queue, m.refused, m.throttled, m.verifySeconds} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
