package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDoctor has a look at a cluster that is well, and then at what is wrong with
// others: each is said, with what to do, and the exit code is 1.
func TestDoctor(t *testing.T) {
	c := startCluster(t, 2)
	api := c.startBroker()
	api.knows(2)
	doctor := func(code int, flags ...string) string {
		t.Helper()
		said := usherCommand(t, code, append([]string{
			"doctor", "--gossip=127.0.0.1:0", "--api=http://" + api.listen, "--max-sessions=100",
		}, flags...)...)
		return said
	}
	well := []string{
		"--redis=" + c.redis.URL(), "--join=" + c.auth.gossip, "--auth=" + c.url(""), "--signing-key=" + c.keys,
		"--ops=" + strings.TrimPrefix(c.nodes["node-1"].ops, "http://"), "--listen=127.0.0.1:0",
	}
	if err := c.redis.Do("CONFIG", "SET", "maxmemory-policy", "noeviction"); err != nil {
		t.Fatal(err)
	}
	said := doctor(0, well...)
	t.Logf("\n%s", said)
	for _, want := range []string{
		"ok       files ", "ok       redis ", "sessions can be opened, moved and ended", "ok       clock ", "ok       keys ",
		"2 nodes and 2 auths and brokers; messages pass both ways with 2 of the nodes", "node-1 is reached at ws://", "node-2 is given sessions", "it is ready",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if strings.Contains(said, "WRONG") {
		t.Error("something is wrong with a cluster that is well")
	}

	for name, w := range map[string]struct {
		flags []string
		says  string
	}{
		"no redis":      {[]string{"--redis=redis://127.0.0.1:1"}, "WRONG    redis "},
		"files":         {[]string{"--max-sessions=100000000"}, "WRONG    files "},
		"nobody there":  {[]string{"--join=127.0.0.1:1"}, "WRONG    gossip "},
		"another key":   {[]string{"--join=" + c.auth.gossip, "--gossip-key=" + strings.TrimSpace(usherCommand(t, 0, "keys", "gossip"))}, "WRONG    gossip "},
		"another label": {[]string{"--join=" + c.auth.gossip, "--gossip-label=other"}, "WRONG    gossip "},
		"no door":       {[]string{"--auth=http://127.0.0.1:1"}, "WRONG    keys "},
		"no process":    {[]string{"--ops=127.0.0.1:1"}, "WRONG    process "},
		"no address":    {[]string{"--listen=192.0.2.1:7000"}, "WRONG    listen "},
	} {
		said := doctor(1, w.flags...)
		if !strings.Contains(said, w.says) {
			t.Errorf("%s: it does not say %q:\n%s", name, w.says, said)
		}
	}

	// Keys that differ.
	other := filepath.Join(t.TempDir(), "other.jwks")
	if out, err := exec.Command(usherBin, "keys", "signing", "--out", other).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if said := doctor(1, "--auth="+c.url(""), "--signing-key="+other); !strings.Contains(said, "does not publish") {
		t.Errorf("of another signing key it says\n%s", said)
	}
	// A user of Redis who may do too little.
	if err := c.redis.Do("ACL", "SETUSER", "weak", "on", "nopass", "~other:*", "+@all"); err != nil {
		t.Fatal(err)
	}
	weak := strings.Replace(c.redis.URL(), "redis://", "redis://weak:x@", 1)
	if said := doctor(1, "--redis="+weak); !strings.Contains(said, "opening a session") || !strings.Contains(said, "docs/configuration.md") {
		t.Errorf("of a user without rights it says\n%s", said)
	}
	// One with the rights that the docs name.
	if err := c.redis.Do("ACL", "SETUSER", "usher", "on", "nopass", "~usher:*", "+@all", "-@dangerous", "+info"); err != nil {
		t.Fatal(err)
	}
	doctor(0, "--redis="+strings.Replace(c.redis.URL(), "redis://", "redis://usher:x@", 1))
	// A node at a wrong address.
	c.startNode("lost", "--advertise=ws://127.0.0.1:1/v1/connect")
	await(t, "the lost one to be found out", starts, func() bool {
		return strings.Contains(usherCommand(t, 0, "nodes", "--api=http://"+api.listen), "connection refused")
	})
	said = doctor(1, well...)
	if !strings.Contains(said, "lost cannot be reached from here at ws://127.0.0.1:1/v1/connect") || !strings.Contains(said, "lost gets no sessions") {
		t.Errorf("of a node at a wrong address it says\n%s", said)
	}
}
