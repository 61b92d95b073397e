package console

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// maxSessions is the most sessions of a user that are returned.
const maxSessions = 100

// sessionJSON is a session in an answer. openapi.yaml defines the fields. ext is left
// out: it is for the application, and the operator must not see it.
type sessionJSON struct {
	ID          string          `json:"id"`
	User        string          `json:"user"`
	Node        string          `json:"node"`
	Epoch       uint64          `json:"epoch"`
	State       session.State   `json:"state"`
	Stream      string          `json:"stream,omitempty"`
	Pool        string          `json:"pool"`
	Region      string          `json:"region,omitempty"`
	Group       string          `json:"group,omitempty"`
	Fallback    []string        `json:"fallback,omitempty"`
	Strict      bool            `json:"strict,omitempty"`
	Created     time.Time       `json:"created"`
	Changed     time.Time       `json:"changed"`
	Leaving     bool            `json:"leaving,omitempty"`
	Reason      proto.CloseCode `json:"reason,omitempty"`
	CloseReason string          `json:"close_reason,omitempty"`
}

func showSession(r session.Record) sessionJSON {
	return sessionJSON{
		ID: r.ID, User: r.User, Node: r.Node, Epoch: r.Epoch, State: r.State, Stream: r.Stream,
		Pool: r.Pool, Region: r.Region, Group: r.Group,
		Fallback: r.Fallback, Strict: r.Strict,
		Created: r.Created.UTC(), Changed: r.Changed.UTC(), Leaving: r.Leaving, Reason: r.Reason, CloseReason: r.CloseReason,
	}
}

func (s *Server) assign(w http.ResponseWriter, r *http.Request) *proto.Problem {
	var req proto.AssignmentRequest
	if problem := s.readBody(w, r, &req); problem != nil {
		return problem
	}
	if len(req.User) <= proto.MaxNameBytes {
		note(r, "user", req.User)
	}
	ctx, cancel := s.limit(r)
	defer cancel()
	a, err := s.cfg.Broker.Assign(ctx, req)
	if err != nil {
		return s.brokerProblem(r, err)
	}
	note(r, "session", a.Session)
	note(r, "node", a.Node.ID)
	httpapi.WriteJSON(w, a)
	return nil
}

func (s *Server) userSessions(w http.ResponseWriter, r *http.Request) *proto.Problem {
	ctx, cancel := s.limit(r)
	defer cancel()
	records, err := s.cfg.Broker.Sessions(ctx, param(r, "user"), maxSessions+1)
	if err != nil {
		return s.brokerProblem(r, err)
	}
	more := len(records) > maxSessions
	if more {
		records = records[:maxSessions]
	}
	list := make([]sessionJSON, len(records))
	for i, rec := range records {
		list[i] = showSession(rec)
	}
	httpapi.WriteJSON(w, map[string]any{"sessions": list, "more": more})
	return nil
}

func (s *Server) session(w http.ResponseWriter, r *http.Request) *proto.Problem {
	ctx, cancel := s.limit(r)
	defer cancel()
	record, err := s.cfg.Broker.Session(ctx, param(r, "sid"))
	if err != nil && !errors.Is(err, session.ErrEnded) {
		return s.brokerProblem(r, err)
	}
	httpapi.WriteJSON(w, showSession(record))
	return nil
}

func (s *Server) endSession(w http.ResponseWriter, r *http.Request) *proto.Problem {
	sid := param(r, "sid")
	if _, ok := session.TagOf(sid); ok {
		note(r, "session", sid)
	}
	ctx, cancel := s.limit(r)
	defer cancel()
	if err := s.cfg.Broker.End(ctx, sid, proto.CloseKicked, r.URL.Query().Get("reason")); err != nil {
		return s.brokerProblem(r, err)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) endUser(w http.ResponseWriter, r *http.Request) *proto.Problem {
	user := param(r, "user")
	note(r, "user", user)
	ctx, cancel := s.limit(r)
	defer cancel()
	ended, err := s.cfg.Broker.EndUser(ctx, user, proto.CloseKicked, r.URL.Query().Get("reason"))
	if err != nil {
		return s.brokerProblem(r, err)
	}
	if ended == nil {
		ended = []string{}
	}
	httpapi.WriteJSON(w, map[string]any{"ended": ended})
	return nil
}

func (s *Server) limit(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), s.cfg.Timeout)
}
