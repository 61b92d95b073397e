package auth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/usher-broker/usher/auth/credential"
	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
)

// login finds out who the client is and has the broker assign a node.
func (s *Server) login(w http.ResponseWriter, r *http.Request) *proto.Problem {
	req, problem := s.readLogin(w, r)
	if problem != nil {
		s.metrics.logins.WithLabelValues("unknown", problem.Code).Inc()
		return problem
	}
	assigned, queued, problem := s.admit(r, req)
	if problem != nil {
		s.metrics.logins.WithLabelValues(req.Method, problem.Code).Inc()
		return problem
	}
	if queued != nil {
		s.metrics.logins.WithLabelValues(req.Method, "queued").Inc()
		writeQueued(w, queued)
		return nil
	}
	s.metrics.logins.WithLabelValues(req.Method, "ok").Inc()
	s.log.Info("login", "user", assigned.User, "session", assigned.Session, "node", assigned.Node.ID,
		"method", req.Method, "client", clientAddr(r, s.cfg.TrustedProxies))
	httpapi.WriteJSON(w, assigned)
	return nil
}

// readLogin returns a request with a method that exists and a placement that
// makes sense.
func (s *Server) readLogin(w http.ResponseWriter, r *http.Request) (loginRequest, *proto.Problem) {
	fields, problem := s.readBody(w, r)
	if problem != nil {
		return loginRequest{}, problem
	}
	method, err := fields.Text("method")
	if err != nil {
		return loginRequest{}, httpapi.Invalid("The body is wrong: " + err.Error() + ".")
	}
	if _, ok := s.cfg.Providers[method]; !ok {
		return loginRequest{}, httpapi.Invalid("Set \"method\" to a login method that is offered here: " + s.methods() + ".")
	}
	placement, err := readPlacement(fields)
	if err != nil {
		return loginRequest{}, httpapi.Invalid("The body is wrong: " + err.Error() + ".")
	}
	key, err := readKey(fields)
	if err != nil {
		return loginRequest{}, httpapi.Invalid("The body is wrong: " + err.Error() + ".")
	}
	return loginRequest{Method: method, Credentials: fields["credentials"], Placement: placement, Confirm: key}, nil
}

// loginRequest is a proto.LoginRequest that was read.
type loginRequest struct {
	Method      string
	Credentials json.RawMessage
	Placement   proto.Placement
	Confirm     proto.Confirmation
}

func (s *Server) admit(r *http.Request, req loginRequest) (proto.Assignment, *proto.Queued, *proto.Problem) {
	id, problem := s.identify(r, req)
	if problem != nil {
		return proto.Assignment{}, nil, problem
	}
	assigned, queued, err := s.enter(r.Context(), proto.AssignmentRequest{User: id.User, Placement: req.Placement, Ext: id.Ext, Confirm: req.Confirm}, "")
	if err != nil {
		return proto.Assignment{}, nil, s.brokerProblem("login", err, "user", id.User)
	}
	return assigned, queued, s.securedOrEnded(r, assigned)
}

// identify asks the method's provider, unless the account or the client has
// failed too often.
func (s *Server) identify(r *http.Request, req loginRequest) (credential.Identity, *proto.Problem) {
	provider := s.cfg.Providers[req.Method]
	client := clientAddr(r, s.cfg.TrustedProxies)
	account := accountOf(provider, req)
	_, guest := provider.(credential.Guest)
	if wait := s.wait(r.Context(), account, client, guest); wait > 0 {
		s.metrics.throttled.Inc()
		return credential.Identity{}, &proto.Problem{
			Status: http.StatusTooManyRequests, Code: proto.ProblemTooManyAttempts, RetryAfter: wholeSeconds(wait),
			Detail: "Too many failed logins to this account or from this address. Try again later.",
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.CredentialTimeout)
	defer cancel()
	start := time.Now()
	id, err := provider.Verify(ctx, req.Credentials)
	s.metrics.verifySeconds.WithLabelValues(req.Method).Observe(time.Since(start).Seconds())
	if err == nil {
		err = checkIdentity(id)
	}
	if err != nil {
		return credential.Identity{}, s.credentialProblem(r.Context(), err, req.Method, account, client)
	}
	if !guest {
		s.cfg.Throttle.Succeeded(r.Context(), account, client)
	}
	return id, nil
}

// wait returns how long the client has to wait for another try. A guest cannot
// fail, and costs no question to the store.
func (s *Server) wait(ctx context.Context, account string, client netip.Addr, guest bool) time.Duration {
	if t, ok := s.cfg.Throttle.(*sharedThrottle); ok && guest {
		return t.localThrottle.Wait(ctx, account, client)
	}
	return s.cfg.Throttle.Wait(ctx, account, client)
}

func (s *Server) credentialProblem(ctx context.Context, err error, method, account string, client netip.Addr) *proto.Problem {
	switch {
	case errors.Is(err, credential.ErrInvalidCredentials):
		s.cfg.Throttle.Failed(ctx, account, client)
		// The name is not logged: people type their password into the wrong field.
		s.log.Info("login refused", "method", method, "client", client, "reason", proto.ProblemInvalidCredentials)
		return &proto.Problem{
			Status: http.StatusUnauthorized, Code: proto.ProblemInvalidCredentials,
			Detail: "These credentials are not valid here.",
		}
	case errors.Is(err, credential.ErrMalformed):
		return httpapi.Invalid("The credentials do not have the form of method " + method + ": " + err.Error() + ".")
	case errors.Is(err, credential.ErrUnavailable):
		s.log.Warn("login refused", "method", method, "client", client, "error", err)
		return &proto.Problem{
			Status: http.StatusServiceUnavailable, Code: proto.ProblemIdentityUnavailable, RetryAfter: httpapi.RetryAfter(),
			Detail: "Who checks these credentials does not answer at this moment. Try again.",
		}
	case errors.Is(err, credential.ErrBusy), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		s.log.Warn("login refused", "method", method, "client", client, "reason", "busy")
		return &proto.Problem{
			Status: http.StatusServiceUnavailable, Code: proto.ProblemNoCapacity, RetryAfter: httpapi.RetryAfter(),
			Detail: "Too many logins are being checked at this moment. Try again.",
		}
	}
	s.log.Error("credentials could not be checked", "method", method, "error", err)
	return httpapi.Internal()
}

// accountOf returns what failures at the claimed account are counted under, or
// "" when the method has no accounts.
func accountOf(p credential.Provider, req loginRequest) string {
	if a, ok := p.(credential.Accounts); ok {
		if name := a.Account(req.Credentials); name != "" {
			return req.Method + ":" + name
		}
	}
	return ""
}

// checkIdentity keeps a provider from handing on what the rest of the cluster
// would refuse.
func checkIdentity(id credential.Identity) error {
	if err := credential.CheckName(id.User); err != nil {
		return errors.New("the provider returned a user whose name " + err.Error())
	}
	if len(id.Ext) > proto.MaxExtBytes || len(id.Ext) > 0 && !json.Valid(id.Ext) {
		return errors.New("the provider returned an ext that is too long or not JSON")
	}
	return nil
}
