package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

// Tickets signs and verifies queue tickets, as token.KeySet and token.Verifier do. The
// errors of VerifyTicket are those of token.Verifier.
type Tickets interface {
	SignTicket(t proto.Ticket) (string, error)
	VerifyTicket(ctx context.Context, raw string) (proto.Ticket, error)
}

// ticketTTL is how long a queue ticket stays valid after the time at which the client is
// to ask again. It is longer than the queue keeps the entry.
const ticketTTL = 2 * time.Minute

// queued returns the answer to a login that waits, with a new queue ticket.
func (s *Server) queued(req proto.AssignmentRequest, w broker.Waiting) (*proto.Queued, error) {
	now := time.Now()
	ticket, err := s.cfg.Tickets.SignTicket(proto.Ticket{
		Audience: proto.TicketAudience, User: req.User, Entry: w.Entry, Placement: req.Placement, Ext: req.Ext, Confirm: req.Confirm,
		IssuedAt: now.Unix(), Expires: now.Add(w.Again + ticketTTL).Unix(),
	})
	if err != nil {
		return nil, fmt.Errorf("signing a queue ticket: %w", err)
	}
	return &proto.Queued{
		Ticket: ticket, Position: w.Ahead + 1, Waiting: w.Waiting,
		EstimateMS: w.Estimate.Milliseconds(), PollAfterMS: w.Again.Milliseconds(),
	}, nil
}

// writeQueued answers a login that waits.
func writeQueued(w http.ResponseWriter, q *proto.Queued) {
	w.Header().Set("Retry-After", strconv.Itoa(ceilSeconds(time.Duration(q.PollAfterMS)*time.Millisecond)))
	httpapi.WriteJSONStatus(w, http.StatusAccepted, q)
}

// queue answers a login that waits: once, or, if the client accepts events, until the
// login is admitted.
func (s *Server) queue(w http.ResponseWriter, r *http.Request) *proto.Problem {
	t, problem := s.ticket(w, r)
	if problem != nil {
		s.metrics.queue.WithLabelValues(problem.Code).Inc()
		return problem
	}
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		return s.queueEvents(w, r, t)
	}
	assigned, queued, problem := s.ask(r, t)
	s.metrics.queue.WithLabelValues(queueResult(queued, problem)).Inc()
	switch {
	case problem != nil:
		return problem
	case queued != nil:
		writeQueued(w, queued)
	default:
		httpapi.WriteJSON(w, assigned)
	}
	return nil
}

func queueResult(queued *proto.Queued, problem *proto.Problem) string {
	switch {
	case problem != nil:
		return problem.Code
	case queued != nil:
		return "waits"
	}
	return "ok"
}

// ask admits the login of a queue ticket, or returns its position.
func (s *Server) ask(r *http.Request, t proto.Ticket) (proto.Assignment, *proto.Queued, *proto.Problem) {
	req := proto.AssignmentRequest{User: t.User, Placement: t.Placement, Ext: t.Ext, Confirm: t.Confirm}
	assigned, queued, problem := s.enter(r, "queue", req, t.Entry)
	if problem == nil && queued == nil {
		s.log.Info("login", "user", assigned.User, "session", assigned.Session, "node", assigned.Node.ID,
			"method", "queue", "client", clientAddr(r, s.cfg.TrustedProxies))
	}
	return assigned, queued, problem
}

// ticket returns the queue ticket of the request.
func (s *Server) ticket(w http.ResponseWriter, r *http.Request) (proto.Ticket, *proto.Problem) {
	if s.cfg.Tickets == nil {
		return proto.Ticket{}, s.notFound(w, r)
	}
	if _, problem := s.readBody(w, r); problem != nil { // it has no members
		return proto.Ticket{}, problem
	}
	raw, ok := bearer(r.Header)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Bearer realm="usher"`)
		return proto.Ticket{}, httpapi.Unauthorized("Send the ticket from login in one header, \"Authorization: Bearer TICKET\".")
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.BrokerTimeout)
	defer cancel()
	t, err := s.cfg.Tickets.VerifyTicket(ctx, raw)
	switch {
	case err == nil:
		return t, nil
	case errors.Is(err, token.ErrUnavailable):
		return proto.Ticket{}, httpapi.StoreUnavailable("The ticket cannot be checked at this moment. Try again.")
	}
	s.log.Info("queue ticket refused", "client", clientAddr(r, s.cfg.TrustedProxies), "error", err)
	w.Header().Set("WWW-Authenticate", `Bearer realm="usher", error="invalid_token"`)
	return proto.Ticket{}, httpapi.Unauthorized("This ticket is not valid here, or has expired. Log in again.")
}

const (
	// maxStreams limits the logins that wait with events. Each keeps a connection open.
	maxStreams = 5000
	// streamPoll is the longest time between two events.
	streamPoll = 2 * time.Second
)

// queueEvents sends events to a login that waits: "position" with a proto.Queued, and at
// the end "assigned" with the answer of a login, or "problem".
func (s *Server) queueEvents(w http.ResponseWriter, r *http.Request, t proto.Ticket) *proto.Problem {
	stream, ok := s.streams.Open(w, r)
	if !ok {
		s.metrics.queue.WithLabelValues(proto.ProblemNoCapacity).Inc()
		return httpapi.NoCapacity() // the client then asks without events
	}
	defer stream.End()
	for {
		assigned, queued, problem := s.ask(r, t)
		s.metrics.queue.WithLabelValues(queueResult(queued, problem)).Inc()
		wait, last, err := streamPoll, false, error(nil)
		switch {
		case problem != nil:
			// After a 503 the login keeps waiting and keeps its position.
			last = problem.Status != http.StatusServiceUnavailable
			err = stream.Send("problem", problem)
		case queued == nil:
			last = true
			err = stream.Send("assigned", assigned)
		default:
			wait = min(wait, time.Duration(queued.PollAfterMS)*time.Millisecond)
			err = stream.Send("position", queued)
		}
		if err != nil || last || !stream.Wait(wait) {
			return nil // if this auth stops, another one accepts the ticket
		}
	}
}
