package process

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// certify writes a certificate for localhost and its key.
func certify(t *testing.T, cert, key, serial string, expires time.Time) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: serial}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: expires, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCertificateIsBounded checks that a certificate or key of any length is not read
// to its end.
func TestCertificateIsBounded(t *testing.T) {
	dir := t.TempDir()
	cert, key, long := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "long.pem")
	certify(t, cert, key, "one", time.Now().Add(time.Hour))
	if err := os.WriteFile(long, make([]byte, MaxPEMBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, files := range [][2]string{{long, key}, {cert, long}} {
		_, err := openCertificate(files[0], files[1], prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "longer than") {
			t.Errorf("%v: %v", files, err)
		}
	}
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	certify(t, cert, key, "one", expires)
	reg := prometheus.NewRegistry()
	c, err := openCertificate(cert, key, reg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		got, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf.Subject.CommonName
	}
	read := func(changes, good bool, want string) {
		t.Helper()
		changed, err := c.read()
		if changed != changes || (err == nil) != good || name() != want {
			t.Errorf("changed %v, %v, in use is %s, want %s", changed, err, name(), want)
		}
	}
	read(false, true, "one")
	certify(t, cert, key, "two", expires)
	read(true, true, "two")
	if err := os.WriteFile(key, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	read(true, false, "two")
	read(false, true, "two") // an error is reported once
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	read(true, false, "two")
	certify(t, cert, key, "three", expires)
	read(true, true, "three")
	if n := testutil.CollectAndCount(reg, "usher_tls_certificate_expiry_timestamp_seconds"); n != 1 {
		t.Errorf("%d gauges of its expiry", n)
	}
}

func TestSecure(t *testing.T) {
	dir := t.TempDir()
	f := TLSFlags{TLSCert: filepath.Join(dir, "tls.crt"), TLSKey: filepath.Join(dir, "tls.key")}
	certify(t, f.TLSCert, f.TLSKey, "one", time.Now().Add(time.Hour))
	var stop Closers
	defer stop.Close()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, secure, err := f.Secure(plain, prometheus.NewRegistry(), &stop, slog.New(slog.DiscardHandler))
	if err != nil || !secure {
		t.Fatal(secure, err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = c.Write([]byte("x")) // completes the handshake
				c.Close()
			}()
		}
	}()
	pem, err := os.ReadFile(f.TLSCert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	dial := func(most uint16, cache tls.ClientSessionCache) (tls.ConnectionState, error) {
		c, err := tls.Dial("tcp", plain.Addr().String(), &tls.Config{
			RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS10, MaxVersion: most, ClientSessionCache: cache, NextProtos: []string{"h2", "http/1.1"},
		})
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer c.Close()
		_, err = c.Read(make([]byte, 1)) // reads the session ticket first
		return c.ConnectionState(), err
	}
	if _, err := dial(tls.VersionTLS11, nil); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
	cache := tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		s, err := dial(tls.VersionTLS13, cache)
		if err != nil || s.DidResume != (i == 1) || s.NegotiatedProtocol != "http/1.1" {
			t.Errorf("connection %d: %v, resumed %v, %q", i+1, err, s.DidResume, s.NegotiatedProtocol)
		}
	}
	for name, f := range map[string]TLSFlags{
		"cert alone": {TLSCert: f.TLSCert}, "key alone": {TLSKey: f.TLSKey}, "no files": {TLSCert: "x", TLSKey: "y"},
		"both ways": {TLSCert: f.TLSCert, TLSKey: f.TLSKey, ACMEFlags: ACMEFlags{ACMEDomain: "example.com"}},
	} {
		if _, _, err := f.Secure(plain, prometheus.NewRegistry(), &stop, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
