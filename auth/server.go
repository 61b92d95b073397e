// Package auth is the login API of a cluster, which is public: it identifies a client,
// has the broker choose a node, and answers with a token and the address of that node.
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/cors"

	"github.com/usher-broker/usher/auth/credential"
	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
)

// Broker assigns sessions to nodes. Its errors are those of packages placement and
// session. Server answers any other error as an internal error.
type Broker interface {
	Assign(ctx context.Context, req proto.AssignmentRequest) (proto.Assignment, error)
	Enter(ctx context.Context, req proto.AssignmentRequest, entry string) (proto.Assignment, broker.Waiting, error)
	Reassign(ctx context.Context, c proto.Claims, unreachable string) (proto.Assignment, error)
	End(ctx context.Context, sid string, code proto.CloseCode, reason string) error
	Prove(ctx context.Context, sid string, proof uint64) error
}

// Verifier checks tokens. token.Verifier implements it; the errors are those of that type.
type Verifier interface {
	Verify(ctx context.Context, raw string) (proto.Claims, error)
}

// Config configures a Server. Broker, Verifier, JWKS and at least one provider are
// required; all other fields have defaults.
type Config struct {
	Broker   Broker
	Verifier Verifier
	JWKS     func() []byte // the public keys as a JWK Set

	// Providers are the login methods by name. If there are several, a
	// credential.Guest without a prefix gets the prefix "guest:", so that a guest
	// cannot take the name of a user of another method.
	Providers map[string]credential.Provider

	// Throttle slows down clients that guess credentials. Default: NewThrottle with
	// its defaults.
	Throttle Throttle

	// Tickets turns on the queue: while every node is full, logins wait instead of
	// being refused. Default: no queue.
	Tickets Tickets

	// Reconnects limits the reconnect requests that are handled at the same time.
	// A request beyond that waits for up to ReconnectWait and is then refused with a
	// Retry-After. Defaults: 256 and 250 ms.
	Reconnects    int
	ReconnectWait time.Duration

	// TrustedProxies are the networks of proxies whose X-Forwarded-For and
	// X-Forwarded-Proto are used. Default: none.
	TrustedProxies []netip.Prefix

	// Origins are the origins of web pages that may call, compared exactly, or "*" for
	// all. Default: "*". Requests carry tokens and no cookies, so a page can only do
	// what the credentials of its own user allow.
	Origins []string

	// BrokerTimeout limits the time of the broker for one request. Default: 800 ms, so
	// that the client has an answer within a second when the store hangs.
	BrokerTimeout time.Duration
	// ReassignTimeout limits the time of the broker for one reconnect, which may wait for
	// a node that hands over the session. Default: 3.5 s, so that a hand-over, at most
	// 2.5 s, leaves time for the store.
	ReassignTimeout time.Duration
	// CredentialTimeout limits the time of a provider. Default: 3 s.
	CredentialTimeout time.Duration
	// BodyTimeout limits the time in which the body of a request must arrive.
	// Default: 5 s.
	BodyTimeout time.Duration

	Registry prometheus.Registerer // default: metrics are not registered
	Logger   *slog.Logger          // default: no logs
}

// Server serves the login API. It starts no goroutines.
type Server struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	cors    *cors.Cors
	router  *chi.Mux
	shed    *shedder

	streams *httpapi.Streams // of events
}

// New returns a server, or an error if the configuration is wrong.
func New(cfg Config) (*Server, error) {
	if cfg.Broker == nil || cfg.Verifier == nil || cfg.JWKS == nil || len(cfg.Providers) == 0 {
		return nil, errors.New("auth: Broker, Verifier, JWKS and a provider are required")
	}
	setDefault(&cfg.BrokerTimeout, 800*time.Millisecond)
	setDefault(&cfg.ReassignTimeout, 3500*time.Millisecond)
	setDefault(&cfg.CredentialTimeout, 3*time.Second)
	setDefault(&cfg.BodyTimeout, 5*time.Second)
	setDefault(&cfg.ReconnectWait, 250*time.Millisecond)
	orDefault(&cfg.Reconnects, 256)
	if cfg.Throttle == nil {
		cfg.Throttle = NewThrottle(ThrottleConfig{})
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Providers = withGuestPrefix(cfg.Providers)
	allowed, err := newCORS(cfg.Origins)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registry)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger, metrics: m, cors: allowed,
		shed: newShedder(cfg.Reconnects, cfg.ReconnectWait), streams: httpapi.NewStreams(maxStreams),
	}
	s.router = s.routes()
	return s, nil
}

// Handler returns the handler of all paths of the login API.
func (s *Server) Handler() http.Handler { return s.router }

// Close ends the event streams of waiting logins. Without it, http.Server.Shutdown
// would wait for them.
func (s *Server) Close() { s.streams.Close() }

// routes returns the router. It answers unknown paths with a problem document.
func (s *Server) routes() *chi.Mux {
	r := chi.NewRouter()
	r.Use(s.recover, s.allowOrigin)
	r.Post("/v1/login", s.answer(s.login))
	r.Post("/v1/queue", s.answer(s.queue))
	r.Post("/v1/reconnect", s.answer(s.reconnect))
	r.Post("/v1/logout", s.answer(s.logout))
	r.Get("/.well-known/jwks.json", s.jwks)
	r.Head("/.well-known/jwks.json", s.jwks)
	r.NotFound(s.answer(s.notFound))
	r.MethodNotAllowed(s.answer(s.methodNotAllowed))
	return r
}

func (s *Server) notFound(http.ResponseWriter, *http.Request) *proto.Problem {
	return &proto.Problem{
		Status: http.StatusNotFound, Code: proto.ProblemNotFound,
		Detail: "There is no such path here. Paths begin with /v1/, as in /v1/login.",
	}
}

func (s *Server) methodNotAllowed(w http.ResponseWriter, r *http.Request) *proto.Problem {
	var allowed []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		if s.router.Match(chi.NewRouteContext(), m, r.URL.Path) {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 { // an unknown method, at an unknown path
		return s.notFound(w, r)
	}
	allow := strings.Join(append(allowed, http.MethodOptions), ", ")
	w.Header().Set("Allow", allow)
	if r.Method == http.MethodOptions { // not a preflight: allowOrigin answers those
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return &proto.Problem{
		Status: http.StatusMethodNotAllowed, Code: proto.ProblemMethodNotAllowed,
		Detail: "This path takes " + allow + ".",
	}
}

// jwks answers with the public keys. They may be cached, but for a much shorter time than
// a new key is published before it signs.
func (s *Server) jwks(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age=60")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(s.cfg.JWKS()) // the caller may be gone
}

// methods returns the names of the login methods, as text.
func (s *Server) methods() string {
	return strings.Join(slices.Sorted(maps.Keys(s.cfg.Providers)), ", ")
}

// withGuestPrefix returns the providers with a prefix for guests if there are several.
func withGuestPrefix(providers map[string]credential.Provider) map[string]credential.Provider {
	providers = maps.Clone(providers)
	if len(providers) < 2 {
		return providers
	}
	for method, p := range providers {
		if g, ok := p.(credential.Guest); ok && g.Prefix == "" {
			providers[method] = credential.Guest{Prefix: "guest:"}
		}
	}
	return providers
}

func setDefault(d *time.Duration, def time.Duration) {
	if *d <= 0 {
		*d = def
	}
}
