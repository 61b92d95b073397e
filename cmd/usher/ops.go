package main

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime/debug"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// check is one condition of readiness; f returns nil when it is met.
type check struct {
	name string
	once bool // it needs to have been met once: what follows is told, and changes nothing
	f    func() error
}

func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "usher_info", Help: "Always 1; the label says which version runs.",
		ConstLabels: prometheus.Labels{"version": versionString()},
	})
	info.Set(1)
	reg.MustRegister(info)
	return reg
}

// labelled returns a registry whose metrics carry the member's name: in «usher
// dev» several members share one ops door.
func labelled(reg prometheus.Registerer, member string) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"member": member}, reg)
}

// serveOps opens the ops door. Whether the process lives depends on nothing
// outside it; whether it is ready depends on the checks.
func serveOps(addr string, reg prometheus.Gatherer, ready []check, log *slog.Logger, more ...route) (*server, error) {
	ln, err := listen(addr)
	if err != nil {
		return nil, err
	}
	return serveOpsOn(ln, reg, ready, log, more...), nil
}

// route is a path that only some roles have.
type route struct {
	pattern string
	handler http.HandlerFunc
}

func serveOpsOn(ln net.Listener, reg prometheus.Gatherer, ready []check, log *slog.Logger, more ...route) *server {
	mux := http.NewServeMux()
	met := make([]atomic.Bool, len(ready))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		status, results := http.StatusOK, map[string]string{}
		for i, c := range ready {
			err := c.f()
			switch {
			case err == nil:
				met[i].Store(true)
				results[c.name] = "ok"
			case c.once && met[i].Load():
				results[c.name] = "was ok, and is not now: " + err.Error()
			default:
				status, results[c.name] = http.StatusServiceUnavailable, err.Error()
			}
		}
		writeJSON(w, status, results)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	// What is resident and not in use says nothing about what sessions cost:
	// «usher bench memory» has it given back before it looks.
	mux.HandleFunc("POST /debug/free", func(w http.ResponseWriter, _ *http.Request) {
		debug.FreeOSMemory()
		w.WriteHeader(http.StatusNoContent)
	})
	for _, r := range more {
		mux.HandleFunc(r.pattern, r.handler)
	}
	return serveOn(ln, mux, log)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
