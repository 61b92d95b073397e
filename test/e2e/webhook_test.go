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

// TestWebhook has a service of the operator's own check who logs in, and then fail.
func TestWebhook(t *testing.T) {
	const secret = "0123456789abcdef-of-both"
	var down atomic.Bool
	var asked atomic.Int32
	house := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body, err := io.ReadAll(r.Body)
		switch {
		case err != nil || r.Header.Get(credential.HeaderSignature) != credential.Sign([]byte(secret), r.Header.Get(credential.HeaderTimestamp), body):
			w.WriteHeader(http.StatusTeapot)
			return
		case down.Load():
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		var req struct{ Credentials struct{ Ticket string } }
		if json.Unmarshal(body, &req) != nil || req.Credentials.Ticket != "of-ada" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"user":"ada","ext":{"level":7}}`)
	}))
	defer house.Close()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startCluster(t, 1, "--webhook="+house.URL, "--webhook-secret-file="+file)
	login := func(ticket string) answer {
		return post(t, c.url("/v1/login"), "", `{"method":"webhook","credentials":{"ticket":"`+ticket+`"}}`)
	}
	a := login("of-ada")
	if a.status != 200 || a.at.User != "ada" {
		t.Fatalf("login: %v", a)
	}
	attach(t, a.at, "")
	if a := login("of-eve"); a.status != 401 || a.problem.Code != "invalid_credentials" {
		t.Errorf("a wrong ticket: %v", a)
	}
	down.Store(true)
	for range 10 {
		if a := login("of-ada"); a.status != 503 || a.problem.Code != "identity_unavailable" || a.retryAfter() < 1 {
			t.Errorf("while the service fails: %v", a)
		}
	}
	if n := asked.Load(); n > 2+2*5+2 {
		t.Errorf("a service that fails was asked %d times", n)
	}
	down.Store(false)
	await(t, "logins to work again", 10*time.Second, func() bool {
		time.Sleep(100 * time.Millisecond)
		return login("of-ada").status == 200
	})
	if said := c.auth.said.String(); strings.Contains(said, secret) || strings.Contains(said, "of-ada") {
		t.Error("the log has a secret")
	}
	usherCommand(t, 2, "auth", "--guest", "--signing-key="+c.keys, "--redis="+c.redis.URL(), "--gossip=127.0.0.1:0", "--listen=127.0.0.1:0", "--webhook="+house.URL)
}
