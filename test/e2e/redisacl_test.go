package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// secureRedis starts a redis-server that accepts only TLS, and only one user, who
// has exactly the rights that docs/configuration.md lists for Usher. It returns the
// address.
func secureRedis(t *testing.T, ca *authority) (addr string) {
	t.Helper()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "redis.pem"), filepath.Join(dir, "redis.key")
	ca.issue(cert, key)
	manual, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	rights := regexp.MustCompile("ACL SETUSER usher on >PASSWORD ([^`]+)`").FindSubmatch(manual)
	if rights == nil {
		t.Fatal("docs/configuration.md has no line ACL SETUSER usher")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = ln.Addr().String()
	ln.Close()
	_, port, _ := net.SplitHostPort(addr)
	conf := filepath.Join(dir, "redis.conf")
	text := fmt.Sprintf("port 0\ntls-port %s\nbind 127.0.0.1\ntls-cert-file %s\ntls-key-file %s\ntls-ca-cert-file %s\ntls-auth-clients no\nsave \"\"\ndir %s\n"+
		"user default off\nuser usher on >secret %s\n", port, cert, key, ca.file, dir, rights[1])
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("redis-server", conf)
	output := &outputBuffer{}
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = output, output, killedWithParent()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("--- last output of redis-server:\n%s", output.tail())
		}
	})
	await(t, "redis-server to listen", 20*time.Second, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return addr
}

// TestLeastPrivilege runs a cluster with secureRedis: logins, moves, a drain, a
// kick, checkpoints, and usher doctor. Redis must refuse no command.
func TestLeastPrivilege(t *testing.T) {
	ca := newAuthority(t)
	addr := secureRedis(t, ca)
	t.Setenv("SSL_CERT_FILE", ca.file)
	url := "rediss://usher:secret@" + addr + "/0"
	users := usersFile(t, "ada", "correct horse")
	keys := filepath.Join(t.TempDir(), "signing.jwk")
	if out, err := exec.Command(usherBin, "keys", "signing", "--out", keys).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	auth := startRole(t, "auth", "auth", "--guest", "--users="+users, "--waiting-room", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--redis="+url, "--signing-key="+keys)
	for i := range 2 {
		startRole(t, fmt.Sprint("node-", i+1), "node", fmt.Sprint("--id=node-", i+1), "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0",
			"--join="+auth.gossip, "--redis="+url, "--jwks=http://"+auth.listen+"/.well-known/jwks.json", "--checkpoint")
	}
	broker := startRole(t, "broker", "broker", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--join="+auth.gossip, "--redis="+url, "--signing-key="+keys)
	for _, p := range []*process{auth, broker} {
		p.await("reach the nodes", startTimeout, func() bool { return p.metrics()["usher_nodes_eligible"] == 2 })
	}
	base := "http://" + auth.listen
	for range 3 {
		if a := post(t, base+"/v1/login", "", `{"method":"password","credentials":{"username":"ada","password":"wrong"}}`); a.status != 401 {
			t.Errorf("wrong password: %v", a)
		}
	}
	if a := post(t, base+"/v1/login", "", `{"method":"password","credentials":{"username":"ada","password":"correct horse"},"placement":{"group":"g"}}`); a.status != 200 {
		t.Errorf("login: %v", a)
	}
	clients := startEchoClients(t, 6, 20*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: base, Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, clients, 20*time.Second)
	api := "http://" + broker.listen
	req, err := http.NewRequest("PUT", api+"/v1/nodes/"+clients[0].session.Node()+"/drain", strings.NewReader(`{"keep":true}`))
	if err != nil {
		t.Fatal(err)
	}
	left, t0 := clients[0].session.Node(), time.Now()
	if a, err := do(req); err != nil || a.status/100 != 2 {
		t.Fatalf("drain: %v, %v", a, err)
	}
	await(t, "the first client to attach to another node", 30*time.Second, func() bool {
		_, ok := clients[0].attachedElsewhere(left, t0)
		return ok
	})
	awaitEchoes(t, clients, 20*time.Second)
	for _, ec := range clients {
		if _, resets, _ := ec.view(); len(resets) != 0 {
			t.Errorf("reset: %v", resets)
		}
	}
	request(t, "DELETE", api+"/v1/users/guest:guest-1/sessions?reason=test")
	if output := usherCommand(t, 0, "doctor", "--redis="+url, "--gossip=127.0.0.1:0"); !strings.Contains(output, "sessions can be opened, moved and ended") {
		t.Errorf("usher doctor cannot use the store:\n%s", output)
	}
	for _, p := range []*process{auth, broker} {
		if output := p.output.String(); strings.Contains(output, "NOPERM") {
			t.Errorf("Redis refused a command of %s: %s", p.name, output)
		}
		for name, n := range p.metrics() {
			if strings.HasPrefix(name, "usher_store_seconds_count{") && strings.Contains(name, `result="unavailable"`) && n > 0 {
				t.Errorf("%s: %s is %v", p.name, name, n)
			}
		}
	}

	// With a wrong password, an unknown CA or without TLS, usher doctor must fail and
	// name the cause.
	for _, wrong := range []struct{ url, file, says string }{
		{"rediss://usher:other@" + addr + "/0", ca.file, "WRONGPASS"},
		{url, "/dev/null", "certificate signed by unknown authority"},
		{"redis://usher:secret@" + addr + "/0", ca.file, "WRONG    redis"},
	} {
		t.Setenv("SSL_CERT_FILE", wrong.file)
		if output := usherCommand(t, 1, "doctor", "--redis="+wrong.url, "--gossip=127.0.0.1:0"); !strings.Contains(output, wrong.says) || strings.Contains(output, "secret") {
			t.Errorf("the output lacks %q, or has the password:\n%s", wrong.says, output)
		}
	}
}
