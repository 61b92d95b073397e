package console

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// brokerProblem turns an error of the broker into what the caller is told.
func (s *Server) brokerProblem(r *http.Request, err error) *proto.Problem {
	switch {
	case errors.Is(err, broker.ErrInvalid):
		return httpapi.Invalid("The request is wrong: " + strings.TrimPrefix(err.Error(), broker.ErrInvalid.Error()+": ") + ".")
	case errors.Is(err, broker.ErrNoSigner):
		return forbidden("This door has no signing key and opens no sessions. Start the broker with --signing-key, or ask another.")
	case errors.Is(err, placement.ErrNoCapacity), errors.Is(err, placement.ErrNoNodes):
		return httpapi.NoCapacity()
	case errors.Is(err, broker.ErrNoNode):
		return notFound("There is no such node; it never was, or it has left.")
	case errors.Is(err, broker.ErrNodeUnavailable):
		s.log.Warn("node does not answer", "path", r.URL.Path, "error", err)
		return &proto.Problem{
			Status: http.StatusServiceUnavailable, Code: proto.ProblemNodeUnavailable, RetryAfter: 1,
			Detail: "The node does not answer. It may have done what it was told; that can be told again.",
		}
	case errors.Is(err, session.ErrConnected):
		return &proto.Problem{
			Status: http.StatusConflict, Code: proto.ProblemAlreadyConnected,
			Detail: "This user is connected already, and the policy of the pool refuses another session.",
		}
	case errors.Is(err, session.ErrNotFound):
		return notFound("There is no such session; it never was, or its time is over.")
	case errors.Is(err, session.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		s.log.Warn("session store unavailable", "path", r.URL.Path, "error", err)
		return httpapi.StoreUnavailable("The session store does not answer at this moment. Try again.")
	}
	s.log.Error("request failed", "path", r.URL.Path, "error", err)
	return httpapi.Internal()
}

func forbidden(detail string) *proto.Problem {
	return &proto.Problem{Status: http.StatusForbidden, Code: proto.ProblemForbidden, Detail: detail}
}

func notFound(detail string) *proto.Problem {
	return &proto.Problem{Status: http.StatusNotFound, Code: proto.ProblemNotFound, Detail: detail}
}

func (s *Server) notFound(w http.ResponseWriter, _ *http.Request) {
	proto.WriteProblem(w, notFound("There is no such path here. Paths begin with /v1/, as in /v1/nodes."))
}

func (s *Server) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if s.router.Match(chi.NewRouteContext(), m, routed(r)) {
			allowed = append(allowed, m)
		}
	}
	allow := strings.Join(allowed, ", ")
	w.Header().Set("Allow", allow)
	proto.WriteProblem(w, &proto.Problem{
		Status: http.StatusMethodNotAllowed, Code: proto.ProblemMethodNotAllowed,
		Detail: "This path takes " + allow + ".",
	})
}

// recover answers a request whose handler panics, and logs where.
func (s *Server) recover(next http.Handler) http.Handler {
	return httpapi.Recover(s.log, proto.WriteProblem, next)
}
