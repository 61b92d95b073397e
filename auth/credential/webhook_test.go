package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// service is a fake of the operator's service.
type service struct {
	mu     sync.Mutex
	answer func(w http.ResponseWriter, body string)
	asked  []*http.Request
	bodies []string
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.asked, s.bodies = append(s.asked, r), append(s.bodies, string(body))
	answer := s.answer
	s.mu.Unlock()
	answer(w, string(body))
}

func (s *service) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func newService(t *testing.T, answer func(w http.ResponseWriter, body string)) (*service, *Webhook) {
	t.Helper()
	s := &service{answer: answer}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	w, err := NewWebhook(WebhookConfig{URL: srv.URL + "/check", Secret: []byte("a secret of many bytes"), Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return s, w
}

func says(status int, text string) func(http.ResponseWriter, string) {
	return func(w http.ResponseWriter, _ string) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

func TestWebhook(t *testing.T) {
	s, w := newService(t, says(200, `{"user":"ada","ext":{"level":7}}`))
	id, err := w.Verify(t.Context(), json.RawMessage(`{"ticket":"abc"}`))
	if err != nil || id.User != "ada" || string(id.Ext) != `{"level":7}` {
		t.Fatalf("%+v, %v", id, err)
	}
	r, body := s.asked[0], s.bodies[0]
	if r.Method != "POST" || r.URL.Path != "/check" || body != `{"credentials":{"ticket":"abc"}}` || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("it was asked %s %s %s", r.Method, r.URL, body)
	}
	at := r.Header.Get(HeaderTimestamp)
	if r.Header.Get(HeaderSignature) != Sign([]byte("a secret of many bytes"), at, []byte(body)) || r.Header.Get(HeaderIdempotency) == "" {
		t.Errorf("the request is not signed: %v", r.Header)
	}
	// The signature itself, so that implementations in other languages can compare.
	if s := Sign([]byte("secret"), "1700000000", []byte(`{"credentials":null}`)); s != "v1=f98b463f6771b8ce5d5393b92f8f7e2f051b9eb8c6127e31c85c4eb85b14b1c4" {
		t.Errorf("the signature is %s", s)
	}
	if _, err := w.Verify(t.Context(), nil); err != nil || s.bodies[1] != `{"credentials":null}` {
		t.Errorf("without credentials: %v, %v", s.bodies, err)
	}
}

func TestWebhookAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, string)
		want   error
		asked  int
	}{
		"nobody":          {says(401, ""), ErrInvalidCredentials, 1},
		"forbidden":       {says(403, ""), ErrInvalidCredentials, 1},
		"wrong form":      {says(400, ""), ErrMalformed, 1},
		"wrong too":       {says(422, ""), ErrMalformed, 1},
		"failure":         {says(500, "oops"), ErrUnavailable, 2},
		"not found":       {says(404, ""), ErrUnavailable, 2},
		"redirect":        {func(w http.ResponseWriter, _ string) { w.Header().Set("Location", "/other"); w.WriteHeader(302) }, ErrUnavailable, 2},
		"no JSON":         {says(200, "<html>"), ErrUnavailable, 2},
		"no user":         {says(200, `{}`), ErrUnavailable, 2},
		"invisible user":  {says(200, `{"user":"a\u0000b"}`), ErrUnavailable, 2},
		"too much":        {says(200, `{"user":"ada","x":"`+strings.Repeat("x", maxWebhookBytes)+`"}`), ErrUnavailable, 2},
		"hangs":           {func(http.ResponseWriter, string) { time.Sleep(300 * time.Millisecond) }, ErrUnavailable, 2},
		"breaks":          {func(http.ResponseWriter, string) { panic(http.ErrAbortHandler) }, ErrUnavailable, 2},
		"well, with null": {says(200, `{"user":"ada","ext":null}`), nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, w := newService(t, c.answer)
			id, err := w.Verify(t.Context(), json.RawMessage(`{}`))
			if !errors.Is(err, c.want) || c.want == nil && (err != nil || id.Ext != nil) {
				t.Errorf("%+v, %v, want %v", id, err, c.want)
			}
			if n := s.count(); n != c.asked {
				t.Errorf("asked %d times, want %d", n, c.asked)
			}
			if c.asked == 2 && s.asked[0].Header.Get(HeaderIdempotency) != s.asked[1].Header.Get(HeaderIdempotency) {
				t.Error("the repeated request has another key")
			}
		})
	}
}

func TestWebhookRepeats(t *testing.T) {
	n := 0
	_, w := newService(t, func(w http.ResponseWriter, _ string) {
		if n++; n == 1 {
			w.WriteHeader(503)
			return
		}
		_, _ = io.WriteString(w, `{"user":"ada"}`)
	})
	if id, err := w.Verify(t.Context(), nil); err != nil || id.User != "ada" {
		t.Errorf("%+v, %v", id, err)
	}
}

func TestWebhookStopsAskingAfterFailures(t *testing.T) {
	s, w := newService(t, says(500, ""))
	for range webhookFailures {
		if _, err := w.Verify(t.Context(), nil); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	before := s.count()
	for range 50 {
		if _, err := w.Verify(t.Context(), nil); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "is not asked for") {
			t.Fatal(err)
		}
	}
	if n := s.count() - before; n != 0 {
		t.Errorf("asked %d times more", n)
	}
	s.mu.Lock()
	s.answer = says(200, `{"user":"ada"}`)
	s.mu.Unlock()
	time.Sleep(breakerOpenFor + 50*time.Millisecond)
	if id, err := w.Verify(t.Context(), nil); err != nil || id.User != "ada" {
		t.Errorf("after the pause: %+v, %v", id, err)
	}
}

// Wrong passwords and callers that give up are not failures of the service.
func TestWebhookIsNotTrippedByClients(t *testing.T) {
	s, w := newService(t, says(401, ""))
	for range 20 {
		if _, err := w.Verify(t.Context(), nil); !errors.Is(err, ErrInvalidCredentials) {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	s.answer = func(http.ResponseWriter, string) { time.Sleep(400 * time.Millisecond) }
	s.mu.Unlock()
	for range 10 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(5 * time.Millisecond); cancel() }()
		if _, err := w.Verify(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	s.answer = says(200, `{"user":"ada"}`)
	s.mu.Unlock()
	if _, err := w.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestNewWebhookRefuses(t *testing.T) {
	secret := []byte("a secret of many bytes")
	for _, c := range []WebhookConfig{
		{URL: "ftp://x", Secret: secret},
		{URL: "http://", Secret: secret},
		{URL: "://", Secret: secret},
		{URL: "http://x", Secret: []byte("short")},
		{URL: "http://x"},
	} {
		if _, err := NewWebhook(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	_, err := NewWebhook(WebhookConfig{URL: "http://user:hush@x", Secret: []byte("short")})
	if err == nil || strings.Contains(fmt.Sprint(err), "hush") {
		t.Error(err)
	}
}
