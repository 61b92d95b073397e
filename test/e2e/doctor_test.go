package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDoctor runs "usher doctor" against a healthy cluster, and then against
// several faulty setups. It must report each fault with a remedy and exit with
// code 1.
func TestDoctor(t *testing.T) {
	c := startCluster(t, 2)
	api := c.startBroker()
	api.awaitEligible(2)
	doctor := func(code int, flags ...string) string {
		t.Helper()
		return usherCommand(t, code, append([]string{
			"doctor", "--gossip=127.0.0.1:0", "--api=http://" + api.listen, "--max-sessions=100",
		}, flags...)...)
	}
	healthy := []string{
		"--redis=" + c.redis.URL(), "--join=" + c.auth.gossip, "--auth=" + c.url(""), "--signing-key=" + c.keys,
		"--ops=" + strings.TrimPrefix(c.nodes["node-1"].ops, "http://"), "--listen=127.0.0.1:0",
	}
	if err := c.redis.Do("CONFIG", "SET", "maxmemory-policy", "noeviction"); err != nil {
		t.Fatal(err)
	}
	output := doctor(0, healthy...)
	t.Logf("\n%s", output)
	for _, want := range []string{
		"ok       files ", "ok       redis ", "sessions can be opened, moved and ended", "ok       clock ", "ok       keys ",
		"2 nodes and 2 auths and brokers; messages pass both ways with 2 of the nodes", "node-1 answers at ws://", "node-2 gets sessions", "it is ready",
	} {
		if !strings.Contains(output, want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if strings.Contains(output, "WRONG") {
		t.Error("the doctor reports a fault of a healthy cluster")
	}

	for name, w := range map[string]struct {
		flags []string
		says  string
	}{
		"no redis":      {[]string{"--redis=redis://127.0.0.1:1"}, "WRONG    redis "},
		"files":         {[]string{"--max-sessions=100000000"}, "WRONG    files "},
		"no member":     {[]string{"--join=127.0.0.1:1"}, "WRONG    gossip "},
		"another key":   {[]string{"--join=" + c.auth.gossip, "--gossip-key=" + strings.TrimSpace(usherCommand(t, 0, "keys", "gossip"))}, "WRONG    gossip "},
		"another label": {[]string{"--join=" + c.auth.gossip, "--gossip-label=other"}, "WRONG    gossip "},
		"no auth":       {[]string{"--auth=http://127.0.0.1:1"}, "WRONG    keys "},
		"no API":        {[]string{"--api=http://127.0.0.1:1"}, "WRONG    api "},
		"no process":    {[]string{"--ops=127.0.0.1:1"}, "WRONG    process "},
		"no address":    {[]string{"--listen=192.0.2.1:7000"}, "WRONG    listen "},
	} {
		output := doctor(1, w.flags...)
		if !strings.Contains(output, w.says) {
			t.Errorf("%s: the output lacks %q:\n%s", name, w.says, output)
		}
	}

	// A signing key that auth does not publish.
	other := filepath.Join(t.TempDir(), "other.jwks")
	if out, err := exec.Command(usherBin, "keys", "signing", "--out", other).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if output := doctor(1, "--auth="+c.url(""), "--signing-key="+other); !strings.Contains(output, "does not publish") {
		t.Errorf("with another signing key:\n%s", output)
	}
	// A Redis user without the needed rights.
	if err := c.redis.Do("ACL", "SETUSER", "weak", "on", "nopass", "~other:*", "+@all"); err != nil {
		t.Fatal(err)
	}
	weak := strings.Replace(c.redis.URL(), "redis://", "redis://weak:x@", 1)
	if output := doctor(1, "--redis="+weak); !strings.Contains(output, "creating a session") || !strings.Contains(output, "docs/configuration.md") {
		t.Errorf("with a Redis user without rights:\n%s", output)
	}
	// A Redis user with the rights that the docs list.
	if err := c.redis.Do("ACL", "SETUSER", "usher", "on", "nopass", "~usher:*", "+@all", "-@dangerous", "+info"); err != nil {
		t.Fatal(err)
	}
	doctor(0, "--redis="+strings.Replace(c.redis.URL(), "redis://", "redis://usher:x@", 1))
	// A node that advertises a wrong address.
	c.startNode("lost", "--advertise=ws://127.0.0.1:1/v1/connect")
	await(t, "the node to be found unreachable", startTimeout, func() bool {
		return strings.Contains(usherCommand(t, 0, "nodes", "--api=http://"+api.listen), "connection refused")
	})
	output = doctor(1, healthy...)
	if !strings.Contains(output, "lost cannot be reached from here at ws://127.0.0.1:1/v1/connect") || !strings.Contains(output, "lost gets no sessions") {
		t.Errorf("with a node at a wrong address:\n%s", output)
	}
}
