package auth

import (
	"net/http"
	"time"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
)

// handler answers a request, or returns the problem to answer with.
type handler func(http.ResponseWriter, *http.Request) *proto.Problem

// answer counts and writes the problems of a handler. It also limits the time in
// which the body must arrive, whether the handler reads it or not. net/http removes the
// limit when the body has arrived.
func (s *Server) answer(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			rc := http.NewResponseController(w)
			_ = rc.SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout)) // fails only without a connection
		}
		if problem := h(w, r); problem != nil {
			s.refuse(w, problem)
		}
	}
}

func (s *Server) refuse(w http.ResponseWriter, p *proto.Problem) {
	s.metrics.refused.WithLabelValues(p.Code).Inc()
	proto.WriteProblem(w, p)
}

// recover answers a request whose handler panics, and logs where.
func (s *Server) recover(next http.Handler) http.Handler {
	return httpapi.Recover(s.log, s.refuse, next)
}
