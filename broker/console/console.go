// Package console is the private door of a cluster: what the operator and the
// game's backend may ask of a broker over HTTP.
//
// Callers show an API key, and what they may do depends on its role. Without
// keys the door is open, but to this machine alone.
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
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Broker is what the door leads to; see broker.Broker for the methods and
// their errors.
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
	Nodes() []placement.NodeView
	Node(id string) (placement.NodeView, bool)
}

// Config says what a Server is made of. Broker and Listen are required.
type Config struct {
	Broker Broker

	// Keys are the API keys. Nil opens the door to whoever is on this machine:
	// New then refuses to listen beyond loopback, and requests are refused that
	// were not made here, for here, and by no foreign web page.
	Keys *Keys
	// Listen is the address that the handler is served at.
	Listen net.Addr

	// Rate is how many requests a second the holder of a key may make, on average
	// over two seconds. Default 1000; negative for any number.
	Rate int

	// Timeout bounds what the broker may take for one request. Default 800 ms:
	// an answer comes within a second when the store hangs.
	Timeout time.Duration
	// BodyTimeout bounds the time in which a request's body arrives. Default 5 s.
	BodyTimeout time.Duration

	Logger *slog.Logger // default: no logs
}

// Server answers the private interface. It has no goroutines of its own.
type Server struct {
	cfg    Config
	log    *slog.Logger
	router *chi.Mux

	// failures is how many wrong keys are answered and logged. More are
	// answered with 429; right keys are not held up by them.
	failures *rate.Limiter
	limiter  *limiter // nil where any number may be made

	streams *httpapi.Streams // of events
}

const (
	failuresPerSecond = 5
	failuresAtOnce    = 20
)

// New returns a server, or an error that names what is wrong with the
// configuration.
func New(cfg Config) (*Server, error) {
	if cfg.Broker == nil || cfg.Listen == nil {
		return nil, errors.New("console: Broker and Listen are required")
	}
	if cfg.Keys == nil && !isLoopbackAddr(cfg.Listen.String()) {
		return nil, errors.New("console: without API keys the private door listens on loopback only, not on " + cfg.Listen.String())
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

// Handler returns the handler of the whole private interface.
func (s *Server) Handler() http.Handler { return s.router }

// Close ends the streams of events: the http.Server would wait for them when it
// shuts down.
func (s *Server) Close() { s.streams.Close() }

// routes are all paths there are, and who may use them.
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
