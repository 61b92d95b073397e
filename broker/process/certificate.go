package process

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TLSFlags are the flags of a listener that can serve TLS itself.
type TLSFlags struct {
	TLSCert string `name:"tls-cert" help:"File of the certificate chain to serve TLS with. Read again when it changes; open connections stay." type:"path" placeholder:"FILE"`
	TLSKey  string `name:"tls-key" help:"File of its private key." type:"path" placeholder:"FILE"`

	ACMEFlags `embed:""`

	clients *x509.CertPool // authorities of client certificates; nil if clients show none
}

// RequireClients has the listener require a client certificate signed by an
// authority in the file. For "" it does nothing.
func (f *TLSFlags) RequireClients(file string) error {
	var err error
	if f.clients, err = ReadRoots(file); err != nil {
		return FlagError{"--tls-client-ca", err}
	}
	if f.clients != nil && f.TLSCert == "" && f.ACMEDomain == "" {
		return FlagError{"--tls-client-ca", errors.New("needs --tls-cert: clients show a certificate by TLS only")}
	}
	return nil
}

// Secure returns a listener that serves TLS if the flags say so, and whether it
// does. On an error the caller closes ln.
func (f TLSFlags) Secure(ln net.Listener, reg prometheus.Registerer, stop *Closers, log *slog.Logger) (_ net.Listener, secure bool, err error) {
	var config *tls.Config
	switch {
	case f.ACMEDomain != "" && f.TLSCert+f.TLSKey != "":
		return nil, false, FlagError{"--acme-domain", errors.New("and --tls-cert are both set: set one of them")}
	case f.ACMEDomain != "":
		if config, err = f.manage(ln.Addr(), reg, stop, log); err != nil {
			return nil, false, FlagError{"--acme-domain", err}
		}
	case f.TLSCert == "" && f.TLSKey == "":
		return ln, false, nil
	case f.TLSCert == "" || f.TLSKey == "":
		return nil, false, FlagError{"--tls-cert", errors.New("and --tls-key go together: set both")}
	default:
		c, err := openCertificate(f.TLSCert, f.TLSKey, reg, log)
		if err != nil {
			return nil, false, FlagError{"--tls-cert", err}
		}
		stop.Add(Start(c.run))
		config = &tls.Config{GetCertificate: c.get}
	}
	// TLS session tickets are on by default, so that a client that reconnects makes
	// a shorter handshake. WebSocket needs HTTP/1.1.
	config.MinVersion = tls.VersionTLS12
	if f.clients != nil {
		config.ClientCAs, config.ClientAuth = f.clients, tls.RequireAndVerifyClientCert
	}
	config.NextProtos = append([]string{"http/1.1"}, config.NextProtos...)
	return tls.NewListener(ln, config), true, nil
}

// certificateInterval is the time between two looks at the files. A mounted
// secret may take a minute longer to change, and renewals leave days.
const certificateInterval = 3 * time.Second

// certificate is a certificate in files that may be replaced at any time.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	failed            prometheus.Counter

	cert, key []byte // as last read, valid or not
	current   atomic.Pointer[tls.Certificate]
}

func openCertificate(certFile, keyFile string, reg prometheus.Registerer, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log, failed: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "usher_tls_reload_failed_total", Help: "Changes of the certificate files that could not be used.",
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
	Every(ctx, certificateInterval, func() {
		switch changed, err := c.read(); {
		case err != nil && changed:
			c.failed.Inc()
			c.log.Warn("cannot use the new certificate; the old one stays in use", "file", c.certFile, "error", err)
		case err == nil && changed:
			c.log.Info("new certificate in use", "file", c.certFile, "expires", c.current.Load().Leaf.NotAfter)
		}
	})
}

// read reads the files. It reports whether they differ from the last read, so
// that one error is logged once.
func (c *certificate) read() (changed bool, err error) {
	cert, err := ReadFile(c.certFile, MaxPEMBytes)
	if err != nil {
		cert = nil
	}
	key, keyErr := ReadFile(c.keyFile, MaxPEMBytes)
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
