package auth

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

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
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ReassignTimeout)
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

// prove checks that the client has the key to which the token is bound, if it is bound to
// one. It does not report a session that has ended or does not exist: the caller's request
// to the broker does.
func (s *Server) prove(w http.ResponseWriter, r *http.Request, c proto.Claims, raw, act string) *proto.Problem {
	if c.Confirm.Thumbprint == "" {
		return nil
	}
	proofs := r.Header.Values(proto.HeaderProof)
	err := error(token.ErrProof)
	var n uint64
	if len(proofs) == 1 {
		n, err = token.VerifyProof(proofs[0], act, raw, c.Confirm.Thumbprint)
	}
	if err != nil {
		s.log.Info("proof refused", "session", c.Session, "user", c.User, "client", clientAddr(r, s.cfg.TrustedProxies), "error", err)
		w.Header().Set("WWW-Authenticate", `Bearer realm="usher", error="invalid_proof"`)
		return &proto.Problem{
			Status: http.StatusUnauthorized, Code: proto.ProblemInvalidProof,
			Detail: "The token is bound to a key: send a proof of possession in one header " + proto.HeaderProof + ", made for this token and for \"" + act + "\".",
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.BrokerTimeout)
	defer cancel()
	switch err := s.cfg.Broker.Prove(ctx, c.Session, n); {
	case err == nil, errors.Is(err, session.ErrNotFound), errors.Is(err, session.ErrEnded):
		return nil
	case errors.Is(err, session.ErrReplayed):
		return &proto.Problem{
			Status: http.StatusConflict, Code: proto.ProblemStaleProof,
			Detail: "This proof, or a later one, was used before. Make a new one.",
		}
	case errors.Is(err, session.ErrUnavailable):
		return httpapi.StoreUnavailable("The proof cannot be checked at this moment. Try again.")
	default:
		return s.brokerProblem(act, err, "user", c.User, "session", c.Session)
	}
}

// shedder limits the requests that are handled at the same time: when a node dies, all
// its clients reconnect at once. A limited number of requests waits for a short time. The
// others are refused early, when that is still cheap, with a random Retry-After that grows
// with the length of the queue.
type shedder struct {
	slots chan struct{} // one element for each request that is handled
	queue chan struct{} // one element for each request that waits
	wait  time.Duration
}

func newShedder(atOnce int, wait time.Duration) *shedder {
	return &shedder{
		slots: make(chan struct{}, atOnce),
		queue: make(chan struct{}, 4*atOnce), wait: wait,
	}
}

// enter reports whether the request may be handled. If so, the caller calls leave at the
// end.
func (s *shedder) enter(ctx context.Context) bool {
	select {
	case s.slots <- struct{}{}:
		return true
	default:
	}
	select {
	case s.queue <- struct{}{}:
		defer func() { <-s.queue }()
	default:
		return false
	}
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	select {
	case s.slots <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (s *shedder) leave() { <-s.slots }

// problem returns the answer to a refused request. Its Retry-After is 1 to 10 s if the
// queue is full, and less if it is not.
func (s *shedder) problem() *proto.Problem {
	most := 2 + 8*len(s.queue)/cap(s.queue)
	return &proto.Problem{
		Status: http.StatusServiceUnavailable, Code: proto.ProblemOverloaded, RetryAfter: 1 + rand.IntN(most),
		Detail: "Very many clients reconnect at this moment. Try again; the session is kept meanwhile.",
	}
}
