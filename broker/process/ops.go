package process

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime/debug"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/session"
)

// Check is one condition of readiness. F returns nil when it is met, and may be
// called concurrently.
type Check struct {
	Name string
	// Once says that the condition needs to have been met once. A later failure is
	// shown by /readyz, and the process stays ready.
	Once bool
	F    func() error
}

// Route is a path of the ops port that only some roles have.
type Route struct {
	Pattern string // as for http.ServeMux
	Handler http.HandlerFunc
}

// NewRegistry returns a registry with the metrics of the Go runtime and of the
// process, and the version.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "usher_info", Help: "Always 1; the label has the running version.",
		ConstLabels: prometheus.Labels{"version": Version()},
	})
	info.Set(1)
	reg.MustRegister(info)
	return reg
}

// Labelled returns a registry that adds the member's name to its metrics. In a
// development cluster several members share one ops port.
func Labelled(reg prometheus.Registerer, member string) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"member": member}, reg)
}

// ServeOps serves the ops port on the listener: /healthz, /readyz, /metrics,
// /debug/pprof/ and the routes. /healthz depends on nothing outside the process;
// /readyz depends on the checks.
func ServeOps(ln net.Listener, reg prometheus.Gatherer, ready []Check, log *slog.Logger, routes ...Route) *Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		httpapi.WriteJSON(w, map[string]string{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", readiness(ready))
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	// Memory that is resident and unused is no part of what sessions cost:
	// usher-bench memory has it returned to the system before it measures.
	mux.HandleFunc("POST /debug/free", func(w http.ResponseWriter, _ *http.Request) {
		debug.FreeOSMemory()
		w.WriteHeader(http.StatusNoContent)
	})
	for _, r := range routes {
		mux.HandleFunc(r.Pattern, r.Handler)
	}
	return Serve(ln, mux, log)
}

// OpenOps binds the address of --ops and serves the ops port until stop, as ServeOps
// does.
func OpenOps(addr string, reg prometheus.Gatherer, ready []Check, stop *Closers, log *slog.Logger, routes ...Route) (*Server, error) {
	ln, err := Listen(addr)
	if err != nil {
		return nil, FlagError{"--ops", err}
	}
	ops := ServeOps(ln, reg, ready, log, routes...)
	stop.Add(func() { ops.Close(CloseTimeout) })
	return ops, nil
}

// readiness answers 200 when all checks are met, and 503 otherwise. The body has
// the result of each.
func readiness(ready []Check) http.HandlerFunc {
	met := make([]atomic.Bool, len(ready))
	return func(w http.ResponseWriter, _ *http.Request) {
		status, results := http.StatusOK, map[string]string{}
		for i, c := range ready {
			err := c.F()
			switch {
			case err == nil:
				met[i].Store(true)
				results[c.Name] = "ok"
			case c.Once && met[i].Load() && !errors.Is(err, session.ErrLayout):
				results[c.Name] = "was ok before, now: " + err.Error()
			default:
				status, results[c.Name] = http.StatusServiceUnavailable, err.Error()
			}
		}
		httpapi.WriteJSONStatus(w, status, results)
	}
}
