package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// tlsFlags are the flags of every door that can speak TLS by itself.
type tlsFlags struct {
	TLSCert string `name:"tls-cert" help:"File of the certificate chain to speak TLS with. Read again when it changes; connections stay." type:"path" placeholder:"FILE"`
	TLSKey  string `name:"tls-key" help:"File of its private key." type:"path" placeholder:"FILE"`

	acmeFlags `embed:""`

	clients *x509.CertPool // who vouches for clients; nil where they show no certificate
}

// requireClients has clients show a certificate that one in the file vouches for.
func (f *tlsFlags) requireClients(file string) error {
	var err error
	if f.clients, err = readRoots(file); err != nil {
		return usageError{"--tls-client-ca", err}
	}
	if f.clients != nil && f.TLSCert == "" && f.ACMEDomain == "" {
		return usageError{"--tls-client-ca", errors.New("needs --tls-cert: without TLS nobody shows a certificate")}
	}
	return nil
}

// secure has what is accepted from the listener speak TLS, if the flags say so.
func (f tlsFlags) secure(ln net.Listener, reg prometheus.Registerer, stop *closers, log *slog.Logger) (_ net.Listener, secure bool, err error) {
	var config *tls.Config
	switch {
	case f.ACMEDomain != "" && f.TLSCert+f.TLSKey != "":
		return nil, false, usageError{"--acme-domain", errors.New("and --tls-cert are both set; one is enough")}
	case f.ACMEDomain != "":
		if config, err = f.manage(ln.Addr(), reg, stop, log); err != nil {
			return nil, false, usageError{"--acme-domain", err}
		}
	case f.TLSCert == "" && f.TLSKey == "":
		return ln, false, nil
	case f.TLSCert == "" || f.TLSKey == "":
		return nil, false, usageError{"--tls-cert", errors.New("and --tls-key go together")}
	default:
		c, err := openCertificate(f.TLSCert, f.TLSKey, reg, log)
		if err != nil {
			return nil, false, usageError{"--tls-cert", err}
		}
		stop.add(runUntilStop(c.run))
		config = &tls.Config{GetCertificate: c.get}
	}
	// Session tickets are on unless switched off, so a phone that comes back
	// makes half the handshake. WebSocket needs HTTP/1.1.
	config.MinVersion = tls.VersionTLS12
	if f.clients != nil {
		config.ClientCAs, config.ClientAuth = f.clients, tls.RequireAndVerifyClientCert
	}
	config.NextProtos = append([]string{"http/1.1"}, config.NextProtos...)
	return tls.NewListener(ln, config), true, nil
}

// certificateInterval is how often the files are looked at: with what a volume
// of secrets takes it is still well within what renewals allow.
const certificateInterval = 3 * time.Second

// certificate is a certificate in files that may be replaced at any time.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	failed            prometheus.Counter

	cert, key []byte // as last read, good or not
	current   atomic.Pointer[tls.Certificate]
}

func openCertificate(certFile, keyFile string, reg prometheus.Registerer, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log, failed: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "usher_tls_reload_failed_total", Help: "Times the certificate's files had changed and made no sense.",
	})}
	if _, err := c.read(); err != nil {
		return nil, err
	}
	reg.MustRegister(c.failed, expiryGauge(func() time.Time { return c.current.Load().Leaf.NotAfter }))
	return c, nil
}

// expiryGauge shows when the certificate in use expires.
func expiryGauge(notAfter func() time.Time) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "usher_tls_certificate_expiry_timestamp_seconds", Help: "Unix time at which the certificate in use expires.",
	}, func() float64 { return float64(notAfter().Unix()) })
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// run reads the files again when they have changed, until ctx ends.
func (c *certificate) run(ctx context.Context) {
	every(ctx, certificateInterval, func() {
		switch changed, err := c.read(); {
		case err != nil && changed:
			c.failed.Inc()
			c.log.Warn("the new certificate makes no sense; the old one stays", "file", c.certFile, "error", err)
		case err == nil && changed:
			c.log.Info("a new certificate is in use", "file", c.certFile, "expires", c.current.Load().Leaf.NotAfter)
		}
	})
}

// read takes in the files. It reports whether they are others than before: an
// error that is not new is not told again.
func (c *certificate) read() (changed bool, err error) {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		cert = nil
	}
	key, keyErr := os.ReadFile(c.keyFile)
	if err = errors.Join(err, keyErr); err != nil {
		key = nil
	}
	if c.current.Load() != nil && bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return false, err
	}
	c.cert, c.key = cert, key
	if err != nil {
		return true, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return true, fmt.Errorf("%s and %s: %w", c.certFile, c.keyFile, err)
	}
	c.current.Store(&pair)
	return true, nil
}
