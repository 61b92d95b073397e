package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

const exampleDir = "../../node/examples/counter"

// TestExample runs the example that the README says to copy: two of its nodes in a
// cluster. SIGTERM under a client that sends ends its node within the drain time
// and with exit code 0. The session resumes on the other node and goes on counting.
func TestExample(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(exampleDir, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(source, []byte("\n")); lines > 40 {
		t.Errorf("the example has %d lines, at most 40 are allowed", lines)
	}
	bin := filepath.Join(t.TempDir(), "counter")
	if text, err := exec.Command("go", "build", "-o", bin, exampleDir).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	c := startCluster(t, 0)
	const drainTimeout = 10 * time.Second
	for _, id := range []string{"counter-1", "counter-2"} {
		p := startProgram(t, id, bin, "--id="+id, "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--join="+c.auth.gossip,
			"--redis="+c.redis.URL(), "--jwks="+c.url("/.well-known/jwks.json"), "--ops=127.0.0.1:0", "--log-format=json",
			"--drain-window=1s", "--drain-timeout="+drainTimeout.String())
		p.awaitStarted()
		c.nodes[id] = p
	}
	c.awaitNodes()

	s, err := usher.Connect(t.Context(), usher.Config{Auth: c.url(""), Credentials: usher.Guest("ada")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	count := 0
	next := func() {
		t.Helper()
		if err := s.SendText(t.Context(), "more"); err != nil {
			t.Fatal(err)
		}
		m, err := s.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if count++; string(m.Data) != strconv.Itoa(count) {
			t.Fatalf("message %d was answered with %q", count, m.Data)
		}
	}
	for range 100 {
		next()
	}
	first := s.Node()
	began := time.Now()
	c.nodes[first].terminate()
	for s.Node() == first {
		if time.Since(began) > startTimeout {
			t.Fatalf("the session is still on %s after %v", first, startTimeout)
		}
		next()
		time.Sleep(10 * time.Millisecond)
	}
	for range 100 {
		next()
	}
	if code := c.nodes[first].waitExit(drainTimeout + startTimeout); code != 0 {
		t.Errorf("%s ended with exit code %d", first, code)
	}
	if stats := s.Stats(); stats.Resets != 0 {
		t.Errorf("the stream was reset %d times", stats.Resets)
	}
	t.Logf("%s ended %v after SIGTERM", first, time.Since(began).Round(time.Millisecond))
}
