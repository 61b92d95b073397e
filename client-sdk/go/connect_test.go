package usher

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

func TestConnect(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		cfg := w.config()
		cfg.Placement = proto.Placement{Region: "eu"}
		cfg.Header = http.Header{"Origin": {"http://n1"}, "authorization": {"Bearer stolen"}, "X-Game": {"chess"}}
		got := w.connect(cfg)
		r := w.auth.want("/v1/login", `{"method":"guest","credentials":{"name":"ada"},"placement":{"region":"eu"}}`)
		if r.token != "" || r.header.Get("X-Game") != "chess" {
			t.Errorf("headers of the login: %v", r.header)
		}
		a := w.nodes["n1"].next()
		h := a.r.Header
		if h.Get("Authorization") != "Bearer token-1" || h.Get("X-Game") != "chess" || h.Get("Origin") != "http://n1" {
			t.Errorf("headers of the handshake: %v", h)
		}
		if p := h.Values("Sec-WebSocket-Protocol"); len(p) != 1 || p[0] != "usher.v1" {
			t.Errorf("subprotocols: %q", p)
		}
		q := a.r.URL.Query()
		if len(q) != 2 || q.Get("attempt") != "1" || len(q.Get("client")) < 16 {
			t.Errorf("query of the first attempt: %q", a.r.URL.RawQuery)
		}
		p := a.accept()
		time.Sleep(time.Second)
		p.welcome(nil)
		s, err := got()
		if err != nil {
			t.Fatal(err)
		}
		defer leave(s)
		if c := w.wantState(Attached); c.Session != s || c.Node != "n1" {
			t.Errorf("notified of %+v", c)
		}
		if s.State() != Attached || s.Node() != "n1" || s.SessionID() != "sid" || s.Token() != "token-1" {
			t.Errorf("%s at %s, session %s", s.State(), s.Node(), s.SessionID())
		}
		if s.Assignment().User != "ada" {
			t.Errorf("assignment: %+v", s.Assignment())
		}
	})
}

func TestPassword(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		cfg := w.config()
		cfg.Credentials = Password("ada", "secret")
		w.auth.answers(refuse(401, proto.ProblemInvalidCredentials, 0))
		_, err := Connect(t.Context(), cfg)
		w.auth.want("/v1/login", `{"method":"password","credentials":{"username":"ada","password":"secret"}}`)
		var p *proto.Problem
		if !errors.As(err, &p) || p.Status != 401 || p.Code != proto.ProblemInvalidCredentials {
			t.Errorf("error: %v", err)
		}
	})
}

func TestConnectRefused(t *testing.T) {
	tests := map[string]struct {
		answer func(http.ResponseWriter, authRequest) bool
		status int
		code   string
		after  int
	}{
		"busy": {refuse(429, proto.ProblemTooManyAttempts, 7), 429, proto.ProblemTooManyAttempts, 7},
		"full": {refuse(503, proto.ProblemNoCapacity, 2), 503, proto.ProblemNoCapacity, 2},
		"no JSON": {func(w http.ResponseWriter, _ authRequest) bool {
			http.Error(w, "<html>", http.StatusBadGateway)
			return true
		}, 502, "http_error", 0},
		"a redirect": {func(w http.ResponseWriter, _ authRequest) bool {
			w.Header().Set("Location", "http://n1/v1/login")
			w.WriteHeader(307)
			return true
		}, 307, "http_error", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				w.auth.answers(tt.answer)
				_, err := Connect(t.Context(), w.config())
				var p *proto.Problem
				if !errors.As(err, &p) || p.Status != tt.status || p.Code != tt.code || p.RetryAfter != tt.after {
					t.Errorf("error: %v", err)
				}
				if len(w.nodes["n1"].attempts) > 0 {
					t.Error("the credentials were sent to another host")
				}
			})
		})
	}
}

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]int{
		"": 0, "0": 0, "7": 7, "-3": 0, "soon": 0, "4000000000": 60, "99999999999999999999": 0,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10, "Fri, 02 Jan 2026 03:00:00 GMT": 0, "Sat, 02 Jan 2027 03:00:00 GMT": 60,
	} {
		if got := retryAfter(v, now); got != want {
			t.Errorf("%q: %d, want %d", v, got, want)
		}
	}
}

func TestBadAnswers(t *testing.T) {
	for name, body := range map[string]string{
		"no JSON":      "hello",
		"no token":     `{"session":"sid","node":{"id":"n1","url":"ws://n1/v1/connect"}}`,
		"http URL":     `{"token":"t","session":"sid","node":{"id":"n1","url":"http://n1/v1/connect"}}`,
		"no host":      `{"token":"t","session":"sid","node":{"id":"n1","url":"ws:///v1/connect"}}`,
		"no URL":       `{"token":"t","session":"sid","node":{"id":"n1","url":":"}}`,
		"a user":       `{"token":"t","session":"sid","node":{"id":"n1","url":"ws://a:b@n1/v1/connect"}}`,
		"a long token": `{"token":"` + strings.Repeat("t", 4097) + `","session":"sid","node":{"id":"n1","url":"ws://n1/"}}`,
		"too long":     `{"token":"` + strings.Repeat("t", 17<<10) + `","session":"sid","node":{"id":"n1","url":"ws://n1/"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				w.auth.answers(func(w http.ResponseWriter, _ authRequest) bool { _, _ = w.Write([]byte(body)); return true })
				if _, err := Connect(t.Context(), w.config()); err == nil || strings.Contains(err.Error(), "tttt") {
					t.Errorf("error: %v", err)
				}
			})
		})
	}
}

func TestConfigErrors(t *testing.T) {
	assignment := proto.Assignment{Token: "t"}
	for name, cfg := range map[string]Config{
		"no auth":           {Credentials: Guest("ada")},
		"auth by WebSocket": {Auth: "ws://auth", Credentials: Guest("ada")},
		"auth with a query": {Auth: "http://auth/?a=b", Credentials: Guest("ada")},
		"no credentials":    {Auth: "http://auth"},
		"both":              {Auth: "http://auth", Credentials: Guest("ada"), Assignment: &assignment},
		"no token":          {Auth: "http://auth", Assignment: &proto.Assignment{}},
		"two dialers":       {Auth: "http://auth", Credentials: Guest("ada"), HTTPClient: http.DefaultClient, Dial: (&network{}).Dial},
		"negative":          {Auth: "http://auth", Credentials: Guest("ada"), AttachTimeout: -1},
	} {
		if _, err := Connect(t.Context(), cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	failing := Config{Auth: "http://auth", Credentials: func(context.Context) (string, any, error) { return "", nil, context.Canceled }}
	if _, err := Connect(t.Context(), failing); !errors.Is(err, context.Canceled) {
		t.Errorf("credentials that fail: %v", err)
	}
}

// Connect gives up when its context ends. Its error contains the last failure.
func TestConnectContext(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		w.auth.names("nowhere")
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err := Connect(ctx, w.config())
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errRefused.Err) {
			t.Errorf("error: %v", err)
		}
		if w.since() != 30*time.Second {
			t.Errorf("after %v", w.since())
		}
	})
}

// If the session ends before it was attached, Connect returns an EndedError.
func TestConnectEnded(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		got := w.connect(w.config())
		w.nodes["n1"].next().close(proto.CloseKicked)
		_, err := got()
		var end *EndedError
		if !errors.As(err, &end) || end.Code != proto.CloseKicked || end.Reason != "kicked" || !errors.Is(err, ErrEnded) {
			t.Errorf("error: %v", err)
		}
	})
}

// Connect with an assignment does not log in, and names no stream.
func TestAssignment(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		saved := assign("n2", "saved")
		cfg := w.config()
		cfg.Credentials, cfg.Assignment = nil, &saved
		got := w.connect(cfg)
		a := w.nodes["n2"].next().names("", "")
		if a.r.Header.Get("Authorization") != "Bearer saved" {
			t.Error("the attempt does not use the saved token")
		}
		a.accept().welcome(nil)
		s, err := got()
		if err != nil {
			t.Fatal(err)
		}
		leave(s)
	})
}

// If the assignment has no node, or its token has expired, the client asks auth first.
// It uses the new token even if the clock says that it has expired.
func TestAssignmentAsksAuth(t *testing.T) {
	expired := assign("n2", "saved")
	expired.TokenExpiresAt = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, saved := range map[string]proto.Assignment{"no node": {Token: "saved"}, "expired": expired} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				cfg := w.config()
				cfg.Credentials, cfg.Assignment = nil, &saved
				w.auth.answers(func(rw http.ResponseWriter, _ authRequest) bool {
					_, _ = rw.Write([]byte(`{"token":"new","token_expires_at":"1999-01-01T00:00:00Z","session":"sid","node":{"id":"n1","url":"ws://n1/v1/connect"}}`))
					return true
				})
				got := w.connect(cfg)
				if r := w.auth.want("/v1/reconnect", "{}"); r.token != "Bearer saved" || r.at != 0 {
					t.Errorf("asked with %q after %v", r.token, r.at)
				}
				w.nodes["n1"].next().accept().welcome(nil)
				s, err := got()
				if err != nil {
					t.Fatal(err)
				}
				leave(s)
			})
		})
	}
}
