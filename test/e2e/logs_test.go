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

// TestLogs plays a session from its login to its end, on two nodes, and reads what
// the processes write of it: one line for each step, with session, user and node.
// No secret is in any line, in any metric, or in a command line.
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
	// By the environment, as containers have it.
	t.Setenv("USHER_REDIS_FILE", filepath.Join(dir, "redis"))
	t.Setenv("USHER_GOSSIP_KEY_FILE", filepath.Join(dir, "gossip"))
	c.auth = startRole(t, "auth", "auth", "--guest", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--signing-key="+c.keys)
	for _, id := range []string{"node-1", "node-2"} {
		c.nodes[id] = startRole(t, id, "node", "--id="+id, "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--join="+c.auth.gossip,
			"--jwks="+c.url("/.well-known/jwks.json"))
	}
	c.awaitNodes()

	wires := &network{direct: c.auth.listen}
	t.Cleanup(wires.close)
	tk := talk(t, usher.Config{Auth: c.url(""), Credentials: usher.Guest("ada"), NoKey: true, Dial: wires.dial}, 20*time.Millisecond)
	awaitEchoes(t, []*talker{tk}, starts)
	wires.cutAll()
	awaitEchoes(t, []*talker{tk}, starts)
	token, sid, home := tk.session.Assignment().Token, tk.session.SessionID(), tk.session.Node()
	asked := time.Now()
	c.nodes[home].terminate()
	awaitElsewhere(t, []*talker{tk}, home, asked)
	awaitEchoes(t, []*talker{tk}, starts)
	other := tk.session.Node()
	later := tk.session.Assignment().Token
	if a := post(t, c.url("/v1/logout"), later, ""); a.status != 204 {
		t.Errorf("logout: %v", a)
	}
	tk.close()
	c.nodes[home].ends(starts)
	c.nodes[other].await("tell of the end", starts, func() bool { return strings.Contains(c.nodes[other].said.String(), `"msg":"ended"`) })

	// One line for each step.
	for _, want := range []struct {
		p    *process
		msg  string
		node string
		n    int
	}{
		{c.auth, "login", home, 1},
		{c.nodes[home], "attached", home, 2},
		{c.nodes[home], "detached", home, 1},
		{c.auth, "session moved", "", 1},
		{c.nodes[home], "moved", home, 1},
		{c.nodes[other], "attached", other, 1},
		{c.nodes[other], "ended", other, 1},
	} {
		n := 0
		for line := range strings.Lines(want.p.said.String()) {
			var l struct {
				Msg, Session, User, Node string
				Replaced                 bool
			}
			if json.Unmarshal([]byte(line), &l) != nil || l.Session != sid {
				continue
			}
			// A client that is back before its node has seen it go has replaced its
			// connection, and was never detached.
			if l.Msg != want.msg && !(want.msg == "detached" && l.Msg == "attached" && l.Replaced) {
				continue
			}
			n++
			if l.User != "ada" || want.node != "" && l.Node != want.node {
				t.Errorf("%s says %s", want.p.name, line)
			}
		}
		if n != want.n {
			t.Errorf("%s has %d lines %q of the session, want %d", want.p.name, n, want.msg, want.n)
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
		for where, text := range map[string]string{"log": p.said.String(), "metrics": metrics, "command line": string(line)} {
			for _, secret := range secrets {
				if strings.Contains(text, secret) {
					t.Errorf("the %s of %s has %.8s…", where, p.name, secret)
				}
			}
		}
	}
	// An address that is wrong is named without its password.
	out, _ := exec.Command(usherBin, "auth", "--guest", "--signing-key="+c.keys, "--redis=redis://:"+password+"@127.0.0.1:0:1/0").CombinedOutput()
	if strings.Contains(string(out), password) {
		t.Errorf("usher says %s", out)
	}
}
