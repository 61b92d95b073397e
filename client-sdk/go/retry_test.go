package usher

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/vectors"
)

func TestBackoffVectors(t *testing.T) {
	names := map[step]string{stepAttach: vectors.NextAttach, stepReconnect: vectors.NextReconnect, stepStop: vectors.NextStop}
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	for _, v := range vectors.Backoffs() {
		t.Run(v.Name, func(t *testing.T) {
			var draw float64
			r := retry{rand: func() float64 { return draw }}
			for i, e := range v.Steps {
				draw = e.Draw
				at := time.Unix(0, 0).Add(ms(e.AtMS))
				var wait time.Duration
				var next step
				switch e.Event {
				case vectors.EventEnded:
					wait, next = r.ended(at, e.Code, ms(e.AttachedMS))
				case vectors.EventAttachFailed:
					wait, next = r.failed(at, e.Code)
				case vectors.EventUnreachable:
					wait, next = r.unreachable()
				case vectors.EventReconnectFailed:
					wait, next = r.unanswered(ms(e.HintMS))
				case vectors.EventReconnectRefused:
					next = stepStop
				case vectors.EventReconnected:
					r.named(at)
				case vectors.EventWelcome:
					r.welcomed()
					continue
				}
				if wait.Milliseconds() != e.WaitMS || names[next] != e.Next {
					t.Errorf("step %d, %s: wait %v, then %s; want %d ms, %s", i, e.Event, wait, names[next], e.WaitMS, e.Next)
				}
			}
		})
	}
}

// The effect of each close code that can be sent, for an attached session.
func TestCloseCodes(t *testing.T) {
	for _, v := range vectors.CloseCodes() {
		if !travels(v.Code) {
			continue
		}
		t.Run(fmt.Sprint(v.Code), func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				s, p := w.attach()
				w.auth.want("/v1/login", "")
				send(t, s, "a")
				p.want("a")
				p.close(v.Code)
				switch v.Action {
				case vectors.NextStop, "app":
					c := w.wantEnded(v.Code)
					if !slices.Equal(payloads(c.Unconfirmed), []string{"a"}) {
						t.Errorf("unconfirmed: %q", payloads(c.Unconfirmed))
					}
					w.nodes["n1"].none(time.Minute)
					if err := s.TrySend(nil); !errors.Is(err, ErrEnded) {
						t.Errorf("send: %v", err)
					}
				case vectors.NextReconnect:
					w.wantCut(v.Code)
					w.auth.want("/v1/reconnect", "{}")
					w.nodes["n1"].next().names("s1", "0")
				default:
					w.wantCut(v.Code)
					w.nodes["n1"].next().names("s1", "0")
					if len(w.auth.requests) > 0 {
						t.Error("auth got another request")
					}
				}
			})
		})
	}
}

func (w *cluster) wantCut(code proto.CloseCode) {
	w.t.Helper()
	var cut *CutError
	if c := w.wantState(Detached); !errors.As(c.Err, &cut) || cut.Code != code {
		w.t.Fatalf("cut by %v, want %d", c.Err, code)
	}
}

// travels reports whether the WebSocket library can send the code.
func travels(c proto.CloseCode) bool {
	return c == 1000 || c == 1001 || c == 1002 || c == 1009 || c == 1011 || c == 1012 || c >= 3000 && c < 5000
}

// The effect of each close code before the welcome.
func TestCloseCodesBeforeTheWelcome(t *testing.T) {
	for _, v := range vectors.CloseCodes() {
		if !travels(v.Code) {
			continue
		}
		t.Run(fmt.Sprint(v.Code), func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				s, p := w.attach()
				w.auth.want("/v1/login", "")
				p.wire.cut()
				w.wantCut(1006)
				w.nodes["n1"].next().close(v.Code)
				switch v.Action {
				case vectors.NextStop, "app":
					w.wantEnded(v.Code)
				case vectors.NextReconnect:
					w.auth.want("/v1/reconnect", "{}")
					w.nodes["n1"].next()
				default:
					w.nodes["n1"].next()
				}
				leave(s)
			})
		})
	}
}

// A session is cut and then refused repeatedly: the waits double, and after the third
// failure in a row the client asks auth, which names another node.
func TestWaits(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		_, p := w.attach()
		w.auth.want("/v1/login", "")
		time.Sleep(time.Minute)
		at := w.since()
		p.wire.cut()
		for i, wait := range []time.Duration{50, 100, 200} {
			a := w.nodes["n1"].next()
			at += wait * time.Millisecond
			if a.at != at {
				t.Errorf("attempt %d after %v, want %v", i, a.at, at)
			}
			if got := a.query.Get("attempt"); got != fmt.Sprint(i+2) {
				t.Errorf("attempt %d has the number %s", i, got)
			}
			a.close(proto.CloseInternal)
		}
		w.auth.names("n2")
		at += 400 * time.Millisecond
		if r := w.auth.want("/v1/reconnect", "{}"); r.at != at || r.token != "Bearer token-1" {
			t.Errorf("auth got a request after %v, want %v, with %q", r.at, at, r.token)
		}
		a := w.nodes["n2"].next().names("s1", "0")
		if a.at != at || a.r.Header.Get("Authorization") != "Bearer token-2" {
			t.Errorf("attempt after %v, want %v, with %q", a.at, at, a.r.Header.Get("Authorization"))
		}
		a.close(proto.CloseInternal)
		if a := w.nodes["n2"].next(); a.at != at+800*time.Millisecond {
			t.Errorf("next attempt after %v", a.at)
		}
	})
}

// The client reports a node without a listener to auth as unreachable after one
// attempt.
func TestUnreachable(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		_, p := w.attach()
		w.auth.want("/v1/login", "")
		_ = w.net.hosts["n1:80"].Close()
		w.auth.names("n2")
		p.wire.cut()
		w.auth.want("/v1/reconnect", `{"unreachable":"n1"}`)
		w.nodes["n2"].next().accept().resume(0)
		w.wantState(Detached)
		w.wantState(Attached)
	})
}

// An HTTP error of the node makes it unreachable, except an error about the token. A
// redirect is an error too, and the client does not follow it.
func TestNodeHTTPErrors(t *testing.T) {
	tests := map[string]struct {
		answer func(a *attempt)
		body   string
	}{
		"upgrade required": {func(a *attempt) { a.problem(426, proto.ProblemUpgradeRequired) }, `{"unreachable":"n1"}`},
		"forbidden":        {func(a *attempt) { a.problem(403, proto.ProblemForbidden) }, `{"unreachable":"n1"}`},
		"token refused":    {func(a *attempt) { a.problem(401, proto.ProblemInvalidToken) }, `{}`},
		"redirect": {func(a *attempt) {
			http.Redirect(a.w, a.r, "http://n2/v1/connect", http.StatusTemporaryRedirect)
			close(a.served)
		}, `{"unreachable":"n1"}`},
		"another protocol": {func(a *attempt) {
			a.r.Header.Del("Sec-WebSocket-Protocol")
			a.accept()
		}, `{"unreachable":"n1"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				_, p := w.attach()
				w.auth.want("/v1/login", "")
				p.wire.cut()
				tt.answer(w.nodes["n1"].next())
				w.auth.want("/v1/reconnect", tt.body)
				if len(w.nodes["n2"].attempts) > 0 {
					t.Error("the token was sent to another node")
				}
			})
		})
	}
}

// A client that was off the network does not report its node as unreachable.
func TestOffline(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		_, _ = w.attach()
		w.auth.want("/v1/login", "")
		w.net.setDown(true)
		w.net.cut()
		time.Sleep(30 * time.Second)
		w.net.setDown(false)
		w.auth.want("/v1/reconnect", "{}")
		w.nodes["n1"].next().names("s1", "0").accept().resume(0)
		w.wantState(Detached)
		w.wantState(Attached)
	})
}

// A node opens WebSockets and sends no welcome. An attempt takes 5 s, so the client
// asks auth after two. When auth names the node again, the client reports it as
// unreachable.
func TestNoWelcome(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		_, p := w.attach()
		w.auth.want("/v1/login", "")
		p.wire.cut()
		for _, body := range []string{`{}`, `{"unreachable":"n1"}`} {
			for range 2 {
				a := w.nodes["n1"].next()
				a.accept().wantClose(0)
				if took := w.since() - a.at; took != 5*time.Second {
					t.Errorf("gave up after %v", took)
				}
			}
			w.auth.want("/v1/reconnect", body)
		}
		w.nodes["n1"].next().accept().resume(0)
		w.wantState(Detached)
		w.wantState(Attached)
	})
}

func TestReconnectAnswers(t *testing.T) {
	tests := map[string]struct {
		status int
		code   string
		end    proto.CloseCode
	}{
		"401": {401, proto.ProblemInvalidToken, proto.CloseSessionEnded},
		"410": {410, proto.ProblemSessionEnded, proto.CloseSessionEnded},
		"403": {403, proto.ProblemForbidden, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				s, p := w.attach()
				send(t, s, "a")
				w.auth.answers(refuse(tt.status, tt.code, 0))
				p.close(proto.CloseMoved)
				w.wantState(Detached)
				c := w.wantEnded(tt.end)
				var problem *proto.Problem
				if !errors.As(c.Err, &problem) || problem.Status != tt.status {
					t.Errorf("ended with %v", c.Err)
				}
				if !slices.Equal(payloads(c.Unconfirmed), []string{"a"}) {
					t.Errorf("unconfirmed: %q", payloads(c.Unconfirmed))
				}
			})
		})
	}
}

// After 429, 5xx and an invalid answer the client asks again, after the hint and with
// jitter.
func TestReconnectLater(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		_, p := w.attach()
		w.auth.want("/v1/login", "")
		answers := make(chan func(http.ResponseWriter, authRequest) bool, 10)
		answers <- refuse(429, proto.ProblemTooManyAttempts, 3)
		answers <- refuse(503, proto.ProblemNoCapacity, 0)
		answers <- func(w http.ResponseWriter, _ authRequest) bool { w.WriteHeader(302); return true }
		answers <- func(rw http.ResponseWriter, _ authRequest) bool {
			_, _ = rw.Write([]byte(`{"token":"t","session":"other","node":{"id":"n2","url":"ws://n2/"}}`))
			return true
		}
		answers <- func(rw http.ResponseWriter, _ authRequest) bool {
			_, _ = rw.Write([]byte(`{"token":"t","session":"sid","node":{"id":"n2","url":"http://n2/"}}`))
			return true
		}
		answers <- func(http.ResponseWriter, authRequest) bool { return false }
		w.auth.answers(func(rw http.ResponseWriter, r authRequest) bool { return (<-answers)(rw, r) })
		time.Sleep(time.Minute)
		at := w.since()
		p.close(proto.CloseGoingAway)
		for _, wait := range []time.Duration{50, 1500, 3000, 6000, 10000, 10000} {
			at += wait * time.Millisecond
			if r := w.auth.want("/v1/reconnect", "{}"); r.at != at {
				t.Errorf("asked after %v, want %v", r.at, at)
			}
		}
		if a := w.nodes["n1"].next(); a.at != at {
			t.Errorf("attached after %v, want %v", a.at, at)
		}
	})
}

// The client does not send a token to the node that has expired by its own clock.
func TestTokenExpiredLocally(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		_, p := w.attachWith(w.config(), func(wel *proto.Welcome) { wel.TokenExpiresAt = time.Now().Add(time.Minute) })
		w.auth.want("/v1/login", "")
		time.Sleep(30 * time.Second)
		p.wire.cut()
		p = w.nodes["n1"].next().accept()
		p.welcome(func(wel *proto.Welcome) { wel.Resumed, wel.TokenExpiresAt = true, time.Now().Add(time.Minute) })
		time.Sleep(30 * time.Second)
		time.Sleep(31 * time.Second)
		p.wire.cut()
		w.auth.want("/v1/reconnect", "{}")
		w.nodes["n1"].next().names("s1", "0")
	})
}
