package auth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/usher-broker/usher/auth/credential"
	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
)

// login identifies the client and makes the broker assign a node.
func (s *Server) login(w http.ResponseWriter, r *http.Request) *proto.Problem {
	req, problem := s.readLogin(w, r)
	if problem != nil {
		s.metrics.logins.WithLabelValues("unknown", problem.Code).Inc()
		return problem
	}
	id, problem := s.identify(r, req)
	var assigned proto.Assignment
	var queued *proto.Queued
	if problem == nil {
		assigned, queued, problem = s.enter(r, "login", proto.AssignmentRequest{User: id.User, Placement: req.Placement, Ext: id.Ext, Confirm: req.Confirm}, "")
	}
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

// readLogin reads and checks the body of a login.
func (s *Server) readLogin(w http.ResponseWriter, r *http.Request) (loginRequest, *proto.Problem) {
	body, problem := s.readBody(w, r)
	if problem != nil {
		return loginRequest{}, problem
	}
	req := loginRequest{
		Method:      body.OptionalString("method"),
		Credentials: body.Raw("credentials"),
		Placement:   readPlacement(body),
		Confirm:     readKey(body),
	}
	if err := body.Err(); err != nil {
		return loginRequest{}, invalidBody(err)
	}
	if _, ok := s.cfg.Providers[req.Method]; !ok {
		return loginRequest{}, httpapi.Invalid("Set \"method\" to a login method that is offered here: " + s.methods() + ".")
	}
	return req, nil
}

// loginRequest is a checked proto.LoginRequest.
type loginRequest struct {
	Method      string
	Credentials json.RawMessage
	Placement   proto.Placement
	Confirm     proto.Confirmation
}

// enter opens a session. If every node is full and the cluster has a queue, the login
// waits, and enter returns its position as a proto.Queued. what names the request in the
// log. entry is "" at first, then the id of the login in the queue.
func (s *Server) enter(r *http.Request, what string, req proto.AssignmentRequest, entry string) (proto.Assignment, *proto.Queued, *proto.Problem) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.BrokerTimeout)
	defer cancel()
	var assigned proto.Assignment
	var waiting broker.Waiting
	var queued *proto.Queued
	var err error
	if s.cfg.Tickets == nil {
		assigned, err = s.cfg.Broker.Assign(ctx, req)
	} else {
		assigned, waiting, err = s.cfg.Broker.Enter(ctx, req, entry)
	}
	if err == nil && waiting.Entry != "" {
		queued, err = s.queued(req, waiting)
	}
	if err != nil {
		return proto.Assignment{}, nil, s.brokerProblem(what, err, "user", req.User)
	}
	return assigned, queued, s.securedOrEnded(r, assigned)
}

// identify has the method's provider verify the credentials. It refuses the login if
// the account or the client has failed too often.
func (s *Server) identify(r *http.Request, req loginRequest) (credential.Identity, *proto.Problem) {
	provider := s.cfg.Providers[req.Method]
	client := clientAddr(r, s.cfg.TrustedProxies)
	account := accountOf(provider, req)
	_, guest := provider.(credential.Guest)
	if wait := s.wait(r.Context(), account, client, guest); wait > 0 {
		s.metrics.throttled.Inc()
		return credential.Identity{}, &proto.Problem{
			Status: http.StatusTooManyRequests, Code: proto.ProblemTooManyAttempts, RetryAfter: ceilSeconds(wait),
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

// wait returns how long the client must wait before it tries again. A login as a guest
// cannot fail, so it does not ask the store.
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
		// The name is not logged, because people sometimes type their password into that field.
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
			Detail: "The service that checks these credentials does not answer at this moment. Try again.",
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

// accountOf returns the name under which failed logins to the account are counted, ""
// if the method has no accounts. The credentials are not verified yet.
func accountOf(p credential.Provider, req loginRequest) string {
	if a, ok := p.(credential.Accounts); ok {
		if name := a.Account(req.Credentials); name != "" {
			return req.Method + ":" + name
		}
	}
	return ""
}

// checkIdentity refuses an identity that other parts of the cluster would refuse.
func checkIdentity(id credential.Identity) error {
	if err := credential.CheckName(id.User); err != nil {
		return errors.New("the provider returned a user whose name " + err.Error())
	}
	if len(id.Ext) > proto.MaxExtBytes || len(id.Ext) > 0 && !json.Valid(id.Ext) {
		return errors.New("the provider returned an ext that is too long or not JSON")
	}
	return nil
}
