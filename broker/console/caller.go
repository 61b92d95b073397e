package console

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
)

// Role is what the holder of a key may do.
type Role string

// The roles. Who runs the cluster need not be able to open sessions in it, and
// a backend does not see the machines.
const (
	Viewer   Role = "viewer"   // reads nodes and sessions
	Operator Role = "operator" // reads nodes and sessions, drains nodes, ends sessions
	Backend  Role = "backend"  // opens, reads and ends sessions, and sends to them
	anybody  Role = "local"    // in open mode: everything
)

// Roles lists the roles of keys.
var Roles = []Role{Viewer, Operator, Backend}

// caller is who makes a request.
type caller struct {
	role Role
	name string
}

type callerKey struct{}

func callerOf(r *http.Request) caller {
	c, _ := r.Context().Value(callerKey{}).(caller)
	return c
}

// identify lets through whoever has a key, or in open mode whoever is here.
func (s *Server) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var c caller
		var problem *proto.Problem
		switch {
		case s.cfg.Keys == nil:
			c, problem = caller{anybody, "local"}, checkLocal(r)
		case isPage(r):
			// It asks for a key by itself.
		default:
			c, problem = s.holder(w, r)
		}
		if problem == nil && c.role != "" && s.limiter != nil && !s.limiter.allow(c) {
			s.log.Warn("too many requests", "by", c.name, "role", string(c.role), "path", r.URL.Path)
			problem = tooMany()
		}
		if problem != nil {
			proto.WriteProblem(w, problem)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
	})
}

// holder returns the holder of the request's key.
func (s *Server) holder(w http.ResponseWriter, r *http.Request) (caller, *proto.Problem) {
	key, ok := bearer(r.Header)
	if ok {
		if c, known := s.cfg.Keys.find(key); known {
			return c, nil
		}
	}
	if !s.failures.Allow() {
		return caller{}, &proto.Problem{
			Status: http.StatusTooManyRequests, Code: proto.ProblemTooManyAttempts, RetryAfter: 1,
			Detail: "Too many requests without a valid API key. Try again later.",
		}
	}
	if !ok {
		w.Header().Set("WWW-Authenticate", `Bearer realm="usher"`)
		return caller{}, httpapi.Unauthorized("Send an API key in one header: «Authorization: Bearer …».")
	}
	s.log.Warn("unknown API key", "client", r.RemoteAddr)
	w.Header().Set("WWW-Authenticate", `Bearer realm="usher", error="invalid_token"`)
	return caller{}, httpapi.Unauthorized("This API key is not known here.")
}

// bearer returns the one key of a request.
func bearer(h http.Header) (key string, ok bool) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, key, _ := strings.Cut(values[0], " ")
	key = strings.Trim(key, " ")
	return key, strings.EqualFold(scheme, "Bearer") && key != ""
}

// handler answers a request, or returns the problem to answer with.
type handler func(http.ResponseWriter, *http.Request) *proto.Problem

// read answers those of the roles.
func (s *Server) read(h handler, roles ...Role) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		problem := checkRole(callerOf(r), roles)
		if problem == nil {
			problem = h(w, r)
		}
		if problem != nil {
			proto.WriteProblem(w, problem)
		}
	}
}

// change does the same and writes down who did what, also when it failed.
func (s *Server) change(action string, h handler, roles ...Role) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := callerOf(r)
		audit := &audited{}
		problem := checkRole(c, roles)
		if problem == nil {
			problem = h(w, r.WithContext(context.WithValue(r.Context(), auditKey{}, audit)))
		}
		outcome := "ok"
		if problem != nil {
			outcome = problem.Code
			proto.WriteProblem(w, problem)
		}
		attrs := append([]slog.Attr{
			slog.String("action", action), slog.String("by", c.name), slog.String("role", string(c.role)),
			slog.String("client", r.RemoteAddr), slog.String("outcome", outcome),
		}, audit.attrs...)
		s.log.LogAttrs(r.Context(), slog.LevelInfo, "audit", attrs...)
	}
}

// audited collects what a change was about.
type audited struct{ attrs []slog.Attr }

type auditKey struct{}

// note adds to the audit line of the request.
func note(r *http.Request, key, value string) {
	if a, ok := r.Context().Value(auditKey{}).(*audited); ok {
		a.attrs = append(a.attrs, slog.String(key, value))
	}
}

func checkRole(c caller, roles []Role) *proto.Problem {
	if c.role == anybody || slices.Contains(roles, c.role) {
		return nil
	}
	return forbidden("A key of role " + string(c.role) + " may not do this.")
}
