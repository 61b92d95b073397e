package usher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

// line has auth answer so many questions with a place in a line, each to be asked
// again after a second.
func (a *fakeAuth) line(places int) {
	a.answers(func(w http.ResponseWriter, r authRequest) bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		if places == 0 {
			return false
		}
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(proto.Queued{
			Ticket: fmt.Sprint("ticket-", places), Position: places, Waiting: 9, PollAfterMS: 1000,
		})
		places--
		return true
	})
}

func TestLoginWaitsForItsTurn(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.auth.line(3)
		cfg := w.config()
		var told []int
		cfg.OnQueue = func(q proto.Queued) { told = append(told, q.Position) }
		got := w.connect(cfg)
		w.auth.want("/v1/login", "")
		for _, ticket := range []string{"ticket-3", "ticket-2", "ticket-1"} {
			before := w.since()
			r := w.auth.want("/v1/queue", "{}")
			if r.token != "Bearer "+ticket || r.at-before < time.Second {
				t.Errorf("asked with %q after %v", r.token, r.at-before)
			}
		}
		p := w.nodes["n1"].next().accept()
		p.welcome(nil)
		s, err := got()
		if err != nil {
			t.Fatal(err)
		}
		defer leave(s)
		if fmt.Sprint(told) != "[3 2 1]" {
			t.Errorf("told of %v", told)
		}
	})
}

// A question that is not answered, or refused for the moment, is asked again; what
// is final is told at once.
func TestQueueTrouble(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.auth.line(1)
		got := w.connect(w.config())
		w.auth.want("/v1/login", "")
		w.auth.answers(refuse(503, proto.ProblemStoreUnavailable, 1))
		for range pollTries {
			w.auth.want("/v1/queue", "")
		}
		var p *proto.Problem
		if _, err := got(); !errors.As(err, &p) || p.Code != proto.ProblemStoreUnavailable {
			t.Errorf("after %d refusals: %v", pollTries, err)
		}

		w.auth.line(1)
		got = w.connect(w.config())
		w.auth.want("/v1/login", "")
		w.auth.answers(refuse(401, proto.ProblemInvalidToken, 0))
		w.auth.want("/v1/queue", "")
		if _, err := got(); !errors.As(err, &p) || p.Code != proto.ProblemInvalidToken {
			t.Error(err)
		}
	})
}

func TestQueueGivesUp(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.auth.line(1000)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := Connect(ctx, w.config())
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting for room, at place") {
			t.Error(err)
		}
	})
}
