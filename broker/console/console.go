// Package console is the private API of a broker: the HTTP interface for the operator
// and for the game's backend. It also serves the dashboard.
//
// Callers send an API key; its role decides what they may do. A broker without API
// keys serves requests from its own machine only, without a key.
package console

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"golang.org/x/time/rate"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Broker is what the private API calls. See broker.Broker for the methods and their
// errors.
type Broker interface {
	Assign(ctx context.Context, req proto.AssignmentRequest) (proto.Assignment, error)
	End(ctx context.Context, sid string, code proto.CloseCode, reason string) error
	EndUser(ctx context.Context, user string, code proto.CloseCode, reason string) ([]string, error)
	Push(ctx context.Context, sid, key string, m proto.Push) (proto.PushResult, error)
	PushUser(ctx context.Context, user, key string, m proto.Push) ([]proto.PushResult, error)
	Drain(ctx context.Context, node string, req proto.DrainRequest) error
	Undrain(ctx context.Context, node string) error
	Explain(ctx context.Context, req proto.AssignmentRequest, unreachable string) (broker.Explanation, error)
	Session(ctx context.Context, sid string) (session.Record, error)
	Sessions(ctx context.Context, user string, limit int) ([]session.Record, error)
	Nodes() []nodes.View
	Node(id string) (nodes.View, bool)
}

// Config is the configuration of a Server. Broker and Listen are required.
type Config struct {
	Broker Broker

	// Keys are the API keys. Nil means local mode: every program on this machine may
	// call without a key. New then refuses an address that is not loopback. The
	// server refuses requests that come from other machines, that name another host,
	// that come through a proxy, or that a web page of another origin makes.
	Keys *Keys
	// Listen is the address at which the handler is served.
	Listen net.Addr

	// Rate is how many requests a second the holder of a key may make, averaged over
	// two seconds. Default 1000; negative for no limit.
	Rate int

	// Timeout limits the time of the broker for one request. Default 800 ms, so that
	// the answer comes within a second even if the store hangs.
	Timeout time.Duration
	// BodyTimeout limits the time until the body of a request has arrived. Default 5 s.
	BodyTimeout time.Duration

	Logger *slog.Logger // default: no logs
}

// Server serves the private API. It has no goroutines of its own.
type Server struct {
	cfg    Config
	log    *slog.Logger
	router *chi.Mux

	// failures limits how many requests with a wrong key are answered with 401 and
	// logged. The others are answered with 429. Requests with a valid key do not
	// count.
	failures *rate.Limiter
	limiter  *limiter // nil if requests are not limited

	streams *httpapi.Streams // the streams of events
}

const (
	failuresPerSecond = 5
	failuresAtOnce    = 20
)

// New returns a server, or an error that says what is wrong with the configuration.
func New(cfg Config) (*Server, error) {
	if cfg.Broker == nil || cfg.Listen == nil {
		return nil, errors.New("console: Broker and Listen are required")
	}
	if cfg.Keys == nil && !isLoopbackAddr(cfg.Listen.String()) {
		return nil, errors.New("console: without API keys the private API listens on loopback addresses only, not on " + cfg.Listen.String())
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, 800*time.Millisecond)
	cfg.BodyTimeout = cmp.Or(cfg.BodyTimeout, 5*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: cfg.Logger, failures: rate.NewLimiter(failuresPerSecond, failuresAtOnce), streams: httpapi.NewStreams(maxStreams)}
	if cfg.Rate = cmp.Or(cfg.Rate, 1000); cfg.Rate > 0 {
		s.limiter = &limiter{perSecond: rate.Limit(cfg.Rate)}
	}
	s.router = s.routes()
	return s, nil
}

// Handler returns the handler of the private API and of the dashboard.
func (s *Server) Handler() http.Handler { return s.router }

// Close ends the streams of events. Call it before you shut down the http.Server,
// which would wait for them.
func (s *Server) Close() { s.streams.Close() }

// routes returns the router with all paths and the roles that may use them.
func (s *Server) routes() *chi.Mux {
	r := chi.NewRouter()
	r.Use(s.recover, s.identify)
	r.Post("/v1/assignments", s.change("assign", s.assign, Backend))
	r.Get("/v1/me", s.read(s.me, Viewer, Operator, Backend))
	r.Get("/v1/events", s.read(s.events, Viewer, Operator))
	r.Get("/v1/explain", s.read(s.explain, Viewer, Operator, Backend))
	r.Get("/v1/nodes", s.read(s.nodes, Viewer, Operator))
	r.Get("/v1/nodes/{id}", s.read(s.node, Viewer, Operator))
	r.Put("/v1/nodes/{id}/drain", s.change("drain", s.drainNode, Operator))
	r.Delete("/v1/nodes/{id}/drain", s.change("undrain", s.undrainNode, Operator))
	r.Get("/v1/users/{user}/sessions", s.read(s.userSessions, Viewer, Operator, Backend))
	r.Delete("/v1/users/{user}/sessions", s.change("end user", s.endUser, Operator, Backend))
	r.Post("/v1/users/{user}/messages", s.change("push", s.pushUser, Backend))
	r.Get("/v1/sessions/{sid}", s.read(s.session, Viewer, Operator, Backend))
	r.Delete("/v1/sessions/{sid}", s.change("end", s.endSession, Operator, Backend))
	r.Post("/v1/sessions/{sid}/messages", s.change("push", s.pushSession, Backend))
	for _, path := range pages {
		r.Get(path, s.page)
	}
	r.NotFound(s.notFound)
	r.MethodNotAllowed(s.methodNotAllowed)
	return r
}
