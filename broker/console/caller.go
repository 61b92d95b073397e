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

// Role decides what the holder of a key may do.
type Role string

// The roles. An operator cannot create sessions, and a backend cannot see the nodes.
const (
	Viewer   Role = "viewer"   // reads nodes and sessions
	Operator Role = "operator" // reads nodes and sessions, drains nodes, ends sessions
	Backend  Role = "backend"  // creates, reads and ends sessions, and sends messages to them
	local    Role = "local"    // may do everything; every caller has it in local mode
)

// Roles lists the roles that a key can have.
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

// identify passes on requests with a valid key, and in local mode those that checkLocal
// accepts. It refuses the others, and callers that exceed their rate.
func (s *Server) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var c caller
		var problem *proto.Problem
		switch {
		case s.cfg.Keys == nil:
			c, problem = caller{local, "local"}, checkLocal(r)
		case isPage(r):
			// The page asks the user for a key.
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

// holder returns the holder of the request's key, or the problem to answer with.
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
		return caller{}, httpapi.Unauthorized("Send an API key in one header \"Authorization: Bearer …\".")
	}
	s.log.Warn("unknown API key", "client", r.RemoteAddr)
	w.Header().Set("WWW-Authenticate", `Bearer realm="usher", error="invalid_token"`)
	return caller{}, httpapi.Unauthorized("This API key is not known to the broker.")
}

// bearer returns the key of a request. ok is false if there is not exactly one.
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

// read returns a handler that serves callers with one of the roles.
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

// change does the same for a handler that changes something. It writes each request to
// the audit log, also if it fails.
func (s *Server) change(action string, h handler, roles ...Role) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := callerOf(r)
		audit := &auditAttrs{}
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

// auditAttrs collects the attributes of an audit line.
type auditAttrs struct{ attrs []slog.Attr }

type auditKey struct{}

// note adds an attribute to the audit line of the request.
func note(r *http.Request, key, value string) {
	if a, ok := r.Context().Value(auditKey{}).(*auditAttrs); ok {
		a.attrs = append(a.attrs, slog.String(key, value))
	}
}

func checkRole(c caller, roles []Role) *proto.Problem {
	if c.role == local || slices.Contains(roles, c.role) {
		return nil
	}
	return forbidden("A key of role " + string(c.role) + " may not do this.")
}
