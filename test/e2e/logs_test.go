package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session/redistest"
	usher "github.com/usher-broker/usher/client-sdk/go"
)

// TestLogs takes a session from login to logout on two nodes, and checks that the
// processes log one line for each step, with session, user and node. No secret may
// appear in a log, in a metric or on a command line.
func TestLogs(t *testing.T) {
	const password = "Uk7pvL-of-redis"
	dir := t.TempDir()
	c := &cluster{t: t, redis: redistest.Start(t, "--requirepass", password), keys: filepath.Join(dir, "signing.jwks"), nodes: map[string]*process{}}
	c.makeKey()
	gossip := strings.TrimSpace(usherCommand(t, 0, "keys", "gossip"))
	files := map[string]string{"redis": strings.Replace(c.redis.URL(), "redis://", "redis://:"+password+"@", 1), "gossip": gossip}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Set by environment variables, as in containers.
	t.Setenv("USHER_REDIS_FILE", filepath.Join(dir, "redis"))
	t.Setenv("USHER_GOSSIP_KEY_FILE", filepath.Join(dir, "gossip"))
	c.auth = startRole(t, "auth", "auth", "--guest", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--signing-key="+c.keys)
	for _, id := range []string{"node-1", "node-2"} {
		c.nodes[id] = startRole(t, id, "node", "--id="+id, "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--join="+c.auth.gossip,
			"--jwks="+c.url("/.well-known/jwks.json"))
	}
	c.awaitNodes()

	net := &faultyNet{direct: c.auth.listen}
	t.Cleanup(net.close)
	ec := startEchoClient(t, usher.Config{Auth: c.url(""), Credentials: usher.Guest("ada"), NoKey: true, Dial: net.dial}, 20*time.Millisecond)
	awaitEchoes(t, []*echoClient{ec}, startTimeout)
	net.cutAll()
	awaitEchoes(t, []*echoClient{ec}, startTimeout)
	token, sid, origin := ec.session.Assignment().Token, ec.session.SessionID(), ec.session.Node()
	asked := time.Now()
	c.nodes[origin].terminate()
	awaitMovedFrom(t, []*echoClient{ec}, origin, asked)
	awaitEchoes(t, []*echoClient{ec}, startTimeout)
	other := ec.session.Node()
	later := ec.session.Assignment().Token
	if a := post(t, c.url("/v1/logout"), later, ""); a.status != 204 {
		t.Errorf("logout: %v", a)
	}
	ec.close()
	c.nodes[origin].waitExit(startTimeout)
	c.nodes[other].await("log the end of the session", startTimeout, func() bool { return strings.Contains(c.nodes[other].output.String(), `"msg":"ended"`) })

	// One line for each step.
	for _, want := range []struct {
		p    *process
		msg  string
		node string
		n    int
	}{
		{c.auth, "login", origin, 1},
		{c.nodes[origin], "attached", origin, 2},
		{c.nodes[origin], "detached", origin, 1},
		{c.auth, "session moved", "", 1},
		{c.nodes[origin], "moved", origin, 1},
		{c.nodes[other], "attached", other, 1},
		{c.nodes[other], "ended", other, 1},
	} {
		n := 0
		for line := range strings.Lines(want.p.output.String()) {
			var l struct {
				Msg, Session, User, Node string
				Replaced                 bool
			}
			if json.Unmarshal([]byte(line), &l) != nil || l.Session != sid {
				continue
			}
			// A client that attaches again before its node notices the disconnect
			// replaces its connection: the node logs no "detached" for it.
			if l.Msg != want.msg && !(want.msg == "detached" && l.Msg == "attached" && l.Replaced) {
				continue
			}
			n++
			if l.User != "ada" || want.node != "" && l.Node != want.node {
				t.Errorf("%s logged a line with a wrong user or node: %s", want.p.name, line)
			}
		}
		if n != want.n {
			t.Errorf("%s logged %d lines %q for the session, want %d", want.p.name, n, want.msg, want.n)
		}
	}

	signing, err := os.ReadFile(c.keys)
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []struct{ D string } }
	if err := json.Unmarshal(signing, &set); err != nil || len(set.Keys) != 1 || set.Keys[0].D == "" {
		t.Fatalf("the signing key: %v", err)
	}
	secrets := []string{password, gossip, token, later, set.Keys[0].D}
	for _, p := range []*process{c.auth, c.nodes[other]} {
		metrics := p.text("/metrics")
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid))
		if err != nil {
			t.Skip(err)
		}
		for where, text := range map[string]string{"log": p.output.String(), "metrics": metrics, "command line": string(line)} {
			for _, secret := range secrets {
				if strings.Contains(text, secret) {
					t.Errorf("the %s of %s contains the secret %.8s…", where, p.name, secret)
				}
			}
		}
	}
	// The error for an invalid address must not contain the password.
	out, _ := exec.Command(usherBin, "auth", "--guest", "--signing-key="+c.keys, "--redis=redis://:"+password+"@127.0.0.1:0:1/0").CombinedOutput()
	if strings.Contains(string(out), password) {
		t.Errorf("usher auth prints the Redis password: %s", out)
	}
}
