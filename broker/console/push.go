package console

import (
	"net/http"
	"strings"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// idempotencyKey is the header that identifies a message. If the backend does not know
// whether a message was sent and pushes it again with the same key, it is not sent
// twice.
const idempotencyKey = "Idempotency-Key"

func (s *Server) pushSession(w http.ResponseWriter, r *http.Request) *proto.Problem {
	sid := param(r, "sid")
	if _, ok := session.TagOf(sid); ok {
		note(r, "session", sid)
	}
	m, key, problem := s.readPush(w, r)
	if problem != nil {
		return problem
	}
	ctx, cancel := s.limit(r)
	defer cancel()
	result, err := s.cfg.Broker.Push(ctx, sid, key, m)
	if err != nil {
		return s.brokerProblem(r, err)
	}
	note(r, "result", result.Result)
	if problem := pushProblem(result.Result); problem != nil {
		return problem
	}
	httpapi.WriteJSON(w, result)
	return nil
}

// pushUser answers with the result for each session of the user, or with a problem if
// none of them accepted the message.
func (s *Server) pushUser(w http.ResponseWriter, r *http.Request) *proto.Problem {
	user := param(r, "user")
	note(r, "user", user)
	m, key, problem := s.readPush(w, r)
	if problem != nil {
		return problem
	}
	ctx, cancel := s.limit(r)
	defer cancel()
	results, err := s.cfg.Broker.PushUser(ctx, user, key, m)
	if err != nil {
		return s.brokerProblem(r, err)
	}
	var worst *proto.Problem
	for _, result := range results {
		problem := pushProblem(result.Result)
		if problem == nil {
			httpapi.WriteJSON(w, map[string]any{"messages": results})
			return nil
		}
		if worst == nil || problem.Status > worst.Status { // 503 is the highest: a later try may succeed
			worst = problem
		}
	}
	return worst
}

func (s *Server) readPush(w http.ResponseWriter, r *http.Request) (m proto.Push, key string, problem *proto.Problem) {
	key = r.Header.Get(idempotencyKey)
	printable := func(c rune) bool { return c > ' ' && c < 0x7f }
	if len(r.Header.Values(idempotencyKey)) > 1 || len(key) > proto.MaxKeyBytes ||
		strings.ContainsFunc(key, func(c rune) bool { return !printable(c) }) {
		return m, "", httpapi.Invalid("The header Idempotency-Key must have 1 to 64 printable ASCII characters, without spaces.")
	}
	return m, key, s.readBody(w, r, &m)
}

// pushProblem returns the problem for a result, nil if the result is a success.
func pushProblem(result string) *proto.Problem {
	switch result {
	case proto.PushFull:
		return &proto.Problem{
			Status: http.StatusConflict, Code: proto.ProblemFull,
			Detail: "The client has as many unconfirmed messages as its limits allow. This message was dropped.",
		}
	case proto.PushNotAttached:
		return &proto.Problem{
			Status: http.StatusConflict, Code: proto.ProblemNotAttached,
			Detail: "The client has not attached to its node yet, so there is no buffer for the message.",
		}
	case proto.PushEnded:
		return &proto.Problem{Status: http.StatusGone, Code: proto.ProblemSessionEnded, Detail: "This session has ended."}
	case proto.PushUnavailable:
		return &proto.Problem{
			Status: http.StatusServiceUnavailable, Code: proto.ProblemNodeUnavailable, RetryAfter: 1,
			Detail: "The node of the session did not answer. The message may have been sent. Try again with the same Idempotency-Key.",
		}
	}
	return nil
}
