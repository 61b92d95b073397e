package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-broker/usher/auth/credential"
)

// TestWebhook checks logins with a webhook: accepted, refused, and while the service
// fails. A failing service must not be called too often, and no secret may be
// logged.
func TestWebhook(t *testing.T) {
	const secret = "0123456789abcdef-of-both"
	var down atomic.Bool
	var calls atomic.Int32
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		body, err := io.ReadAll(r.Body)
		switch {
		case err != nil || r.Header.Get(credential.HeaderSignature) != credential.Sign([]byte(secret), r.Header.Get(credential.HeaderTimestamp), body):
			w.WriteHeader(http.StatusTeapot)
			return
		case down.Load():
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		var req struct{ Credentials struct{ Code string } }
		if json.Unmarshal(body, &req) != nil || req.Credentials.Code != "of-ada" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"user":"ada","ext":{"level":7}}`)
	}))
	defer service.Close()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startCluster(t, 1, "--webhook="+service.URL, "--webhook-secret-file="+file)
	login := func(code string) answer {
		return post(t, c.url("/v1/login"), "", `{"method":"webhook","credentials":{"code":"`+code+`"}}`)
	}
	a := login("of-ada")
	if a.status != 200 || a.at.User != "ada" {
		t.Fatalf("login: %v", a)
	}
	attach(t, a.at, "")
	if a := login("of-eve"); a.status != 401 || a.problem.Code != "invalid_credentials" {
		t.Errorf("wrong credentials: %v", a)
	}
	down.Store(true)
	for range 10 {
		if a := login("of-ada"); a.status != 503 || a.problem.Code != "identity_unavailable" || a.retryAfter() < 1 {
			t.Errorf("while the service fails: %v", a)
		}
	}
	if n := calls.Load(); n > 2+2*5+2 {
		t.Errorf("the failing service was called %d times, want at most %d", n, 2+2*5+2)
	}
	down.Store(false)
	await(t, "logins to work again", 10*time.Second, func() bool {
		time.Sleep(100 * time.Millisecond)
		return login("of-ada").status == 200
	})
	if output := c.auth.output.String(); strings.Contains(output, secret) || strings.Contains(output, "of-ada") {
		t.Error("the log contains a secret")
	}
	usherCommand(t, 2, "auth", "--guest", "--signing-key="+c.keys, "--redis="+c.redis.URL(), "--gossip=127.0.0.1:0", "--listen=127.0.0.1:0", "--webhook="+service.URL)
}
