package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestClientCertificates starts a private API that requires both a client
// certificate and an API key. A request with only one of them must fail.
func TestClientCertificates(t *testing.T) {
	c := startCluster(t, 1)
	ca, otherCA := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca.issue(file("server.pem"), file("server.key"))
	ca.issue(file("client.pem"), file("client.key"))
	otherCA.issue(file("other.pem"), file("other.key"))
	out, err := exec.Command(usherBin, "keys", "api", "viewer", "ops").Output()
	if err != nil {
		t.Fatal(err)
	}
	key, line, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err := os.WriteFile(file("keys"), []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("key"), []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startRole(t, "broker", "broker", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--join="+c.auth.gossip, "--redis="+c.redis.URL(),
		"--api-keys="+file("keys"), "--tls-cert="+file("server.pem"), "--tls-key="+file("server.key"), "--tls-client-ca="+ca.file)
	p.await("know the node", startTimeout, func() bool { return p.metrics()["usher_nodes_eligible"] == 1 })
	api := []string{"nodes", "--api=https://" + p.listen}
	trusts := "--api-ca=" + ca.file
	with := func(flags ...string) []string { return append(append([]string(nil), api...), flags...) }
	good := []string{"--api-cert=" + file("client.pem"), "--api-cert-key=" + file("client.key")}
	if output := usherCommand(t, 0, with(append(good, trusts, "--api-key-file="+file("key"))...)...); !strings.Contains(output, "node-1") {
		t.Errorf("with certificate and key: %s", output)
	}
	for name, flags := range map[string][]string{
		"no certificate":                   {trusts, "--api-key-file=" + file("key")},
		"no key":                           append(good, trusts),
		"client certificate of another CA": {trusts, "--api-key-file=" + file("key"), "--api-cert=" + file("other.pem"), "--api-cert-key=" + file("other.key")},
		"server certificate not trusted":   {"--api-key-file=" + file("key"), "--api-ca=" + otherCA.file},
	} {
		if output := usherCommand(t, 1, with(flags...)...); strings.Contains(output, "node-1") {
			t.Errorf("%s: %s", name, output)
		}
	}
}
