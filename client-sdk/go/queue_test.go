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

// queue makes auth answer the given number of requests with a position in the queue,
// to be polled again after a second.
func (a *fakeAuth) queue(logins int) {
	a.answers(func(w http.ResponseWriter, r authRequest) bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		if logins == 0 {
			return false
		}
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(proto.Queued{
			Ticket: fmt.Sprint("ticket-", logins), Position: logins, Waiting: 9, PollAfterMS: 1000,
		})
		logins--
		return true
	})
}

func TestLoginWaitsInQueue(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		w.auth.queue(3)
		cfg := w.config()
		var positions []int
		cfg.OnQueue = func(q proto.Queued) { positions = append(positions, q.Position) }
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
		if fmt.Sprint(positions) != "[3 2 1]" {
			t.Errorf("notified of positions %v", positions)
		}
	})
}

// The client repeats a request that gets no answer or a temporary refusal. It returns
// a final refusal at once.
func TestQueueTrouble(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		w.auth.queue(1)
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

		w.auth.queue(1)
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
	inCluster(t, func(t *testing.T, w *cluster) {
		w.auth.queue(1000)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := Connect(ctx, w.config())
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting in the queue, position") {
			t.Error(err)
		}
	})
}
