package e2e

import (
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/usher-broker/usher/broker/session/redistest"
)

// oldLayout are texts of the message that refuses a Redis with sessions of the first
// layout. It names one of the keys, and what to do.
var oldLayout = []string{"sessions of layout 1", "usher:{8d969eef}:user:ada", "use an empty database", "delete its keys usher:*", "have expired"}

// oldRedis starts a Redis with a key as the first layout named it.
func oldRedis(t *testing.T) *redistest.Server {
	t.Helper()
	server := redistest.Start(t, "--maxmemory-policy", "noeviction")
	if err := server.Do("ZADD", "usher:{8d969eef}:user:ada", "1", "8d969eef.aaaaaaaaaaaaaaaaaaaaaaaaaa"); err != nil {
		t.Fatal(err)
	}
	return server
}

// lacks returns the first of the texts that s does not contain, or "".
func lacks(s string, texts []string) string {
	for _, text := range texts {
		if !strings.Contains(s, text) {
			return text
		}
	}
	return ""
}

// TestOldLayout starts each role, and usher doctor, with a Redis that has sessions of
// the first layout. Each ends at once and says what to do. After the old keys are
// deleted they start.
func TestOldLayout(t *testing.T) {
	server := oldRedis(t)
	redis, keys := "--redis="+server.URL(), filepath.Join(t.TempDir(), "signing.jwk")
	usherCommand(t, 0, "keys", "signing", "--out", keys)
	roles := map[string][]string{
		"auth":   {"auth", "--guest", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--signing-key=" + keys, redis},
		"broker": {"broker", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", redis},
		"node":   {"node", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--jwks=http://127.0.0.1:1/jwks.json", redis},
	}
	for name, args := range roles {
		p := start(t, name, args...)
		if code := p.waitExit(startTimeout); code != 2 {
			t.Errorf("%s ended with code %d", name, code)
		}
		if text := lacks(p.output.String(), append(oldLayout, "--redis")); text != "" {
			t.Errorf("%s does not print %q:\n%s", name, text, p.output.String())
		}
	}
	doctor := []string{"doctor", redis, "--gossip=127.0.0.1:0", "--max-sessions=100"}
	if output := usherCommand(t, 1, doctor...); lacks(output, append(oldLayout, "WRONG    redis")) != "" {
		t.Errorf("usher doctor prints\n%s", output)
	}
	if err := server.Do("DEL", "usher:{8d969eef}:user:ada"); err != nil {
		t.Fatal(err)
	}
	startRole(t, "auth", roles["auth"]...)
	startRole(t, "broker", roles["broker"]...)
	usherCommand(t, 0, doctor...)
	// A program of a later layout has used the database since.
	if err := server.Do("SET", "usher:layout", "3"); err != nil {
		t.Fatal(err)
	}
	p := start(t, "broker", roles["broker"]...)
	if code := p.waitExit(startTimeout); code != 2 || lacks(p.output.String(), []string{`the layout "3"`, "needs layout 2"}) != "" {
		t.Errorf("the broker ended with code %d:\n%s", code, p.output.String())
	}
}

// TestOldLayoutIsNoticedLater starts a broker while a Redis with old sessions does not
// answer. The broker runs, and is not ready until the old keys are gone.
func TestOldLayoutIsNoticedLater(t *testing.T) {
	server := oldRedis(t)
	server.Pause()
	p := start(t, "broker", "broker", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--redis="+server.URL(), "--log-format=json", "--ops=127.0.0.1:0")
	p.awaitRunning()
	server.Resume()
	readiness := ""
	p.await("name the old sessions", startTimeout, func() bool {
		resp, err := web.Get(p.ops + "/readyz")
		if err != nil {
			return false
		}
		defer drain(resp)
		body, _ := io.ReadAll(resp.Body)
		readiness = string(body)
		return resp.StatusCode == 503 && strings.Contains(readiness, oldLayout[0])
	})
	if text := lacks(readiness, []string{`"store":`, oldLayout[2], oldLayout[3]}); text != "" {
		t.Errorf("/readyz lacks %q: %s", text, readiness)
	}
	resp, err := web.Get("http://" + p.listen + "/v1/users/ada/sessions")
	if err != nil {
		t.Fatal(err)
	}
	defer drain(resp)
	if resp.StatusCode != 503 {
		t.Errorf("the private API answers %s to a question about sessions", resp.Status)
	}
	if err := server.Do("DEL", "usher:{8d969eef}:user:ada"); err != nil {
		t.Fatal(err)
	}
	p.await("be ready", startTimeout, p.ready)
}
