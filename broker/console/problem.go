package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// brokerProblem returns the problem for an error of the broker, and logs it if it is
// not the caller's fault.
func (s *Server) brokerProblem(r *http.Request, err error) *proto.Problem {
	switch {
	case errors.Is(err, broker.ErrInvalid):
		return httpapi.Invalid("The request is wrong: " + strings.TrimPrefix(err.Error(), broker.ErrInvalid.Error()+": ") + ".")
	case errors.Is(err, broker.ErrNoSigner):
		return forbidden("This broker has no signing key and cannot create sessions. Start it with --signing-key, or call another broker.")
	case errors.Is(err, placement.ErrNoCapacity):
		return httpapi.NoCapacity()
	case errors.Is(err, placement.ErrNoNodes):
		return httpapi.NoNodes()
	case errors.Is(err, broker.ErrNoNode):
		return noSuchNode(param(r, "id"))
	case errors.Is(err, broker.ErrNodeUnavailable):
		s.log.Warn("node does not answer", "path", r.URL.Path, "error", err)
		return &proto.Problem{
			Status: http.StatusServiceUnavailable, Code: proto.ProblemNodeUnavailable, RetryAfter: 1,
			Detail: "The node does not answer. It may have executed the command. It is safe to send it again.",
		}
	case errors.Is(err, session.ErrConnected):
		return &proto.Problem{
			Status: http.StatusConflict, Code: proto.ProblemAlreadyConnected,
			Detail: "This user is already connected, and the policy of the pool refuses another session.",
		}
	case errors.Is(err, session.ErrNotFound):
		return noSuchSession(r)
	case errors.Is(err, session.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		s.log.Warn("session store unavailable", "path", r.URL.Path, "error", err)
		return httpapi.StoreUnavailable("The session store cannot be used at this moment. Try again.")
	}
	s.log.Error("request failed", "path", r.URL.Path, "error", err)
	return httpapi.Internal()
}

func noSuchNode(id string) *proto.Problem {
	return notFound(fmt.Sprintf("No node %.128q: it never joined the cluster or has left.", id))
}

// noSuchSession is the answer to a request for a session, or for the sessions of a
// user, if there is none.
func noSuchSession(r *http.Request) *proto.Problem {
	if sid := param(r, "sid"); sid != "" {
		return notFound(fmt.Sprintf("No session %.64q: it never existed or has expired.", sid))
	}
	return notFound(fmt.Sprintf("User %.128q has no session.", param(r, "user")))
}

func forbidden(detail string) *proto.Problem {
	return &proto.Problem{Status: http.StatusForbidden, Code: proto.ProblemForbidden, Detail: detail}
}

func notFound(detail string) *proto.Problem {
	return &proto.Problem{Status: http.StatusNotFound, Code: proto.ProblemNotFound, Detail: detail}
}

func (s *Server) notFound(w http.ResponseWriter, _ *http.Request) {
	proto.WriteProblem(w, notFound("No such path. The paths of the private API begin with /v1/, such as /v1/nodes."))
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
		Detail: "This path supports only " + allow + ".",
	})
}

// recover answers a request whose handler panics, and logs the panic.
func (s *Server) recover(next http.Handler) http.Handler {
	return httpapi.Recover(s.log, proto.WriteProblem, next)
}
