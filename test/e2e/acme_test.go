package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// pebble is the module path of Let's Encrypt's ACME test server.
const pebble = "github.com/letsencrypt/pebble/v2/cmd/"

// TestACME starts a node that gets its certificate from a certificate
// authority. The authority connects to the node's client port to validate the
// domain name.
func TestACME(t *testing.T) {
	if os.Getenv("USHER_SLOW") == "" {
		t.Skip("slow: builds a certificate authority (USHER_SLOW=1)")
	}
	bins := t.TempDir()
	for _, name := range []string{"pebble", "pebble-challtestsrv"} {
		cmd := exec.Command("go", "install", pebble+name+"@v2.8.0")
		cmd.Env = append(os.Environ(), "GOBIN="+bins, "GOWORK=off", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go install %s: %v\n%s", name, err, out)
		}
	}
	const name = "node-1.usher.test"
	ca, dir := newAuthority(t), t.TempDir()
	cert, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	ca.issue(cert, key) // for the authority's own HTTPS endpoint
	acme, management, node, dns := freePort(t), freePort(t), freePort(t), freePort(t)
	config := filepath.Join(dir, "pebble.json")
	text, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": "127.0.0.1:" + acme, "managementListenAddress": "127.0.0.1:" + management,
		"certificate": cert, "privateKey": key, "httpPort": 1, "tlsPort": json.Number(node),
	}})
	if err == nil {
		err = os.WriteFile(config, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	startProgram(t, "names", filepath.Join(bins, "pebble-challtestsrv"), "-defaultIPv4=127.0.0.1", "-defaultIPv6=", "-dns01=127.0.0.1:"+dns,
		"-http01=", "-https01=", "-tlsalpn01=", "-doh=", "-management=127.0.0.1:"+freePort(t))
	startProgram(t, "authority", filepath.Join(bins, "pebble"), "-config="+config, "-dnsserver=127.0.0.1:"+dns)
	roots := x509.NewCertPool()
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool}, DisableKeepAlives: true}}
	await(t, "the authority", startTimeout, func() bool {
		resp, err := web.Get("https://127.0.0.1:" + management + "/roots/0")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		pem, err := io.ReadAll(resp.Body)
		return err == nil && roots.AppendCertsFromPEM(pem)
	})

	c := startCluster(t, 0, "--probe=none")
	p := startProgram(t, "node-1", usherBin, "node", "--id=node-1", "--listen=127.0.0.1:"+node, "--gossip=127.0.0.1:0", "--join="+c.auth.gossip,
		"--redis="+c.redis.URL(), "--jwks="+c.url("/.well-known/jwks.json"), "--advertise=wss://"+name+":{port}",
		"--acme-domain="+name, "--acme-ca=https://127.0.0.1:"+acme+"/dir", "--acme-ca-roots="+ca.file, "--acme-storage="+filepath.Join(dir, "acme"),
		"--log-format=json", "--ops=127.0.0.1:0")
	p.awaitStarted()
	started := time.Now()
	var expires time.Time
	await(t, "the certificate", time.Minute, func() bool {
		conn, err := tls.Dial("tcp", p.listen, &tls.Config{RootCAs: roots, ServerName: name})
		if err != nil {
			return false
		}
		defer conn.Close()
		expires = conn.ConnectionState().PeerCertificates[0].NotAfter
		return true
	})
	t.Logf("certificate of %s obtained %.1f s after the node was ready, valid until %v", name, time.Since(started).Seconds(), expires)
	if n := p.metrics()["usher_tls_certificate_expiry_timestamp_seconds"]; int64(n) != expires.Unix() {
		t.Errorf("the metric says the certificate expires at %v, want %v", n, expires.Unix())
	}
	var d net.Dialer
	ec := startEchoClient(t, usher.Config{
		Auth: c.url(""), Credentials: usher.Guest("ada"), TLS: &tls.Config{RootCAs: roots},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return d.DialContext(ctx, network, strings.Replace(addr, name, "127.0.0.1", 1))
		},
	}, 50*time.Millisecond)
	awaitEchoes(t, []*echoClient{ec}, startTimeout)
	checkNoLoss(t, []*echoClient{ec})
}

// freePort returns a TCP port of 127.0.0.1 that no process listens on.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)
}
