package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// authority is a certificate authority that signs certificates for localhost and
// 127.0.0.1.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string // its certificate, as PEM
	pool *x509.CertPool
	made int64 // certificates issued
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.pem"), pool: x509.NewCertPool()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// issue writes a new certificate and key to the two paths. Each file is replaced
// by a rename, as certificate renewal tools do.
func (a *authority) issue(cert, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.made++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(100 + a.made), Subject: pkix.Name{CommonName: "node"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	writePEM(a.t, key+".new", "PRIVATE KEY", secret)
	writePEM(a.t, cert+".new", "CERTIFICATE", der)
	for _, name := range []string{key, cert} {
		if err := os.Rename(name+".new", name); err != nil {
			a.t.Fatal(err)
		}
	}
}

func writePEM(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestCertificateIsReplaced replaces the certificate of a node while clients
// exchange messages and new ones connect. New handshakes must see the new
// certificate within ten seconds, and no connection may drop. A file that is not
// a key must be rejected and counted.
func TestCertificateIsReplaced(t *testing.T) {
	ca := newAuthority(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	ca.issue(cert, key)
	c := startCluster(t, 0, "--probe-ca="+ca.file)
	node := c.startNode("node-1", "--tls-cert="+cert, "--tls-key="+key, "--advertise=wss://localhost:{port}")
	c.awaitNodes()

	config := func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name), TLS: &tls.Config{RootCAs: ca.pool}}
	}
	clients := startEchoClients(t, 50, 50*time.Millisecond, config)
	awaitEchoes(t, clients, startTimeout)
	if a := c.mustLogin("url-check"); a.Node.URL[:16] != "wss://localhost:" {
		t.Errorf("the assignment has the URL %s, want wss://localhost:…", a.Node.URL)
	}
	serial := func() int64 {
		conn, err := tls.Dial("tcp", node.listen, &tls.Config{RootCAs: ca.pool, ServerName: "localhost"})
		if err != nil {
			t.Fatalf("TLS handshake: %v", err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	before := serial()
	ca.issue(cert, key)
	replaced := time.Now()
	handshakes := 0
	await(t, "handshakes to see the new certificate", 10*time.Second, func() bool {
		handshakes++
		return serial() != before
	})
	t.Logf("%d handshakes, none failed; the new certificate is seen %.1f s after it was written", handshakes, time.Since(replaced).Seconds())
	late := startEchoClients(t, 10, 50*time.Millisecond, func(name string) usher.Config { return config("late-" + name) })
	awaitEchoes(t, append(clients, late...), startTimeout)
	checkNoLoss(t, append(clients, late...))
	for _, ec := range clients {
		if m, ok := ec.since(usher.Detached, replaced); ok {
			t.Errorf("%s lost its connection: %v", ec.session.SessionID(), m.err)
		}
	}

	// The node must keep the old key when the new file is invalid, and count it.
	if err := os.WriteFile(key, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	node.await("count the invalid key", 10*time.Second, func() bool { return node.metrics()["usher_tls_reload_failed_total"] == 1 })
	if now := serial(); now == before {
		t.Error("the old certificate is back")
	}
	if n := node.metrics()["usher_tls_certificate_expiry_timestamp_seconds"]; time.Until(time.Unix(int64(n), 0)) > time.Hour || n == 0 {
		t.Errorf("the metric says the certificate expires at %v, want a time within the next hour", n)
	}
}
