package usher

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Close acknowledges the handled messages, waits until the node has confirmed the
// sent messages, and closes with 1000. It does not log out.
func TestClose(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		w.auth.want("/v1/login", "")
		p.send("x")
		receive(t, s, "x")
		send(t, s, "a")
		p.want("a")
		closed := make(chan error, 1)
		go func() { closed <- s.Close(context.Background()) }()
		synctest.Wait()
		if err := s.TrySend(nil); !errors.Is(err, ErrClosed) {
			t.Errorf("send: %v", err)
		}
		p.wantControl(`{"type":"ack","received":1}`)
		synctest.Wait()
		if len(closed) > 0 {
			t.Fatalf("Close returned before the node had confirmed: %v", <-closed)
		}
		p.ack(1)
		p.wantClose(1000)
		if err := <-closed; err != nil {
			t.Errorf("close: %v", err)
		}
		c := w.wantEnded(0)
		if !errors.Is(c.Err, ErrClosed) || c.Unconfirmed != nil {
			t.Errorf("notified of %+v", c)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("close again: %v", err)
		}
		if len(w.auth.requests) > 0 {
			t.Error("auth got another request")
		}
	})
}

// Close stops waiting after a time and returns ErrUnconfirmed.
func TestCloseUnconfirmed(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(w *cluster, p *peer)
		wait    time.Duration
		timeout time.Duration
	}{
		"a node that does not confirm": {func(*cluster, *peer) {}, flushWait, time.Hour},
		"the context ends":             {func(*cluster, *peer) {}, time.Second, time.Second},
		"half-open":                    {func(_ *cluster, p *peer) { p.wire.lose() }, flushWait + closeGrace, time.Hour},
		"detached": {func(w *cluster, p *peer) {
			w.net.setDown(true)
			p.wire.cut()
			w.wantState(Detached)
		}, 0, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				s, p := w.attach()
				send(t, s, "a")
				p.want("a")
				tt.prepare(w, p)
				go func() { _, _, _ = p.ws.Read(context.Background()) }()
				ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
				defer cancel()
				before := w.since()
				if err := s.Close(ctx); !errors.Is(err, ErrUnconfirmed) {
					t.Errorf("close: %v", err)
				}
				if d := w.since() - before; d != tt.wait {
					t.Errorf("waited %v, want %v", d, tt.wait)
				}
				if c := w.wantEnded(0); !slices.Equal(payloads(c.Unconfirmed), []string{"a"}) {
					t.Errorf("unconfirmed: %q", payloads(c.Unconfirmed))
				}
			})
		})
	}
}

func TestLogout(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		w.auth.want("/v1/login", "")
		go func() { _, _, _ = p.ws.Read(context.Background()) }()
		if err := s.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		if r := w.auth.want("/v1/logout", "{}"); r.token != "Bearer token-1" {
			t.Errorf("logged out with token %q", r.token)
		}
		if c := w.wantEnded(proto.CloseSessionEnded); !errors.Is(c.Err, ErrLoggedOut) {
			t.Errorf("ended with %v", c.Err)
		}
	})
}

// The node may close the connection before auth answers.
func TestLogoutNodeFirst(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		w.auth.answers(func(rw http.ResponseWriter, _ authRequest) bool {
			p.close(proto.CloseSessionEnded)
			time.Sleep(time.Second)
			rw.WriteHeader(204)
			return true
		})
		if err := s.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		if c := w.wantEnded(proto.CloseSessionEnded); !errors.Is(c.Err, ErrLoggedOut) {
			t.Errorf("ended with %v", c.Err)
		}
	})
}

// The node closes the connection, and the answer of auth is lost.
func TestLogoutAnswerLost(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		w.auth.answers(func(http.ResponseWriter, authRequest) bool {
			p.close(proto.CloseSessionEnded)
			time.Sleep(time.Second)
			panic(http.ErrAbortHandler)
		})
		if err := s.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		if c := w.wantEnded(proto.CloseSessionEnded); !errors.Is(c.Err, ErrLoggedOut) {
			t.Errorf("ended with %v", c.Err)
		}
	})
}

// A logout that fails returns the error and does not change the session.
func TestLogoutFails(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		w.auth.answers(refuse(503, proto.ProblemStoreUnavailable, 1))
		var problem *proto.Problem
		if err := s.Logout(t.Context()); !errors.As(err, &problem) || problem.Status != 503 {
			t.Errorf("logout: %v", err)
		}
		send(t, s, "a")
		p.want("a")
		p.close(proto.CloseSessionEnded)
		if c := w.wantEnded(proto.CloseSessionEnded); errors.Is(c.Err, ErrLoggedOut) {
			t.Errorf("ended with %v", c.Err)
		}
	})
}

// A session can be closed while it waits before its next attempt.
func TestCloseWaiting(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		w.auth.answers(refuse(503, proto.ProblemNoCapacity, 60))
		p.close(proto.CloseGoingAway)
		w.wantState(Detached)
		time.Sleep(time.Second)
		before := w.since()
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if w.since() != before {
			t.Errorf("waited %v", w.since()-before)
		}
	})
}
