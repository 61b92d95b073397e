package auth

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

// reconnect answers the holder of a session's token with the node that serves the
// session now.
func (s *Server) reconnect(w http.ResponseWriter, r *http.Request) *proto.Problem {
	if !s.shed.enter(r.Context()) {
		problem := s.shed.problem()
		s.metrics.reconnects.WithLabelValues(problem.Code).Inc()
		return problem
	}
	defer s.shed.leave()
	assigned, problem := s.reassign(w, r)
	if problem != nil {
		s.metrics.reconnects.WithLabelValues(problem.Code).Inc()
		return problem
	}
	s.metrics.reconnects.WithLabelValues("ok").Inc()
	s.log.Info("reconnect", "user", assigned.User, "session", assigned.Session, "node", assigned.Node.ID)
	httpapi.WriteJSON(w, assigned)
	return nil
}

func (s *Server) reassign(w http.ResponseWriter, r *http.Request) (proto.Assignment, *proto.Problem) {
	claims, problem := s.holder(w, r, proto.ProofReconnect)
	if problem != nil {
		return proto.Assignment{}, problem
	}
	body, problem := s.readBody(w, r)
	if problem != nil {
		return proto.Assignment{}, problem
	}
	unreachable := name(body, "unreachable")
	if err := body.Err(); err != nil {
		return proto.Assignment{}, invalidBody(err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.BrokerTimeout)
	defer cancel()
	assigned, err := s.cfg.Broker.Reassign(ctx, claims, unreachable)
	if err != nil {
		return proto.Assignment{}, s.brokerProblem("reconnect", err, "user", claims.User, "session", claims.Session)
	}
	return assigned, s.secured(r, assigned)
}

// logout ends the session. A session that has already ended is not an error: a client
// that repeats a logout, because the answer was lost, gets the same answer.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) *proto.Problem {
	claims, problem := s.holder(w, r, proto.ProofLogout)
	if problem == nil {
		problem = s.end(r.Context(), claims)
	}
	if problem != nil {
		s.metrics.logouts.WithLabelValues(problem.Code).Inc()
		return problem
	}
	s.metrics.logouts.WithLabelValues("ok").Inc()
	s.log.Info("logout", "user", claims.User, "session", claims.Session, "node", claims.Node)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) end(ctx context.Context, c proto.Claims) *proto.Problem {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.BrokerTimeout)
	defer cancel()
	err := s.cfg.Broker.End(ctx, c.Session, proto.CloseSessionEnded, "")
	if err == nil || errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrEnded) {
		return nil
	}
	return s.brokerProblem("logout", err, "user", c.User, "session", c.Session)
}

// holder returns the claims of the request's token. It accepts an expired token, because
// the broker knows whether the session still exists. If the token is bound to a key, the
// request must carry a proof of possession for act.
func (s *Server) holder(w http.ResponseWriter, r *http.Request, act string) (proto.Claims, *proto.Problem) {
	raw, ok := bearer(r.Header)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Bearer realm="usher"`)
		return proto.Claims{}, httpapi.Unauthorized("Send the token from login in one header, \"Authorization: Bearer TOKEN\".")
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.BrokerTimeout)
	defer cancel()
	claims, err := s.cfg.Verifier.Verify(ctx, raw)
	switch {
	case err == nil, errors.Is(err, token.ErrExpired):
		return claims, s.prove(w, r, claims, raw, act)
	case errors.Is(err, token.ErrUnavailable):
		s.log.Warn("token not checked", "error", err)
		return proto.Claims{}, httpapi.StoreUnavailable("The token cannot be checked at this moment. Try again.")
	case errors.Is(err, token.ErrInvalid):
		s.log.Info("token refused", "client", clientAddr(r, s.cfg.TrustedProxies), "error", err)
		w.Header().Set("WWW-Authenticate", `Bearer realm="usher", error="invalid_token"`)
		return proto.Claims{}, httpapi.Unauthorized("This is not a token of this cluster. Log in again.")
	}
	s.log.Error("token not checked", "error", err)
	return proto.Claims{}, httpapi.Internal()
}

// bearer returns the bearer token of a request that has exactly one.
func bearer(h http.Header) (raw string, ok bool) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, raw, _ := strings.Cut(values[0], " ")
	raw = strings.Trim(raw, " ")
	return raw, strings.EqualFold(scheme, "Bearer") && raw != ""
}
