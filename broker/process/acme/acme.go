// Package acme gets certificates from a certificate authority by ACME (RFC 8555).
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
)

// Config describes the certificate to get.
type Config struct {
	Domain  string       // DNS name that leads to this machine alone
	Email   string       // address that the authority may write to; may be empty
	CA      string       // URL of the authority's directory; Let's Encrypt if empty
	CARoots string       // PEM file to verify the authority's own certificate with; the system's if empty
	Storage string       // directory for the account, the certificate and its key
	Port    int          // local port that the authority reaches as port 443
	Logger  *slog.Logger // results; the library writes each step to standard error
}

// challenge is the protocol by which the authority checks that the name leads to
// this process (RFC 8737). It uses the port that the process serves already.
const challenge = "acme-tls/1"

// Manage gets the certificate and renews it until ctx ends. It does not wait for
// the first certificate: TLS handshakes fail until it arrives. expires returns
// when the certificate last used expires, and 1970 before the first use.
func Manage(ctx context.Context, c Config) (config *tls.Config, expires func() time.Time, err error) {
	if c.Storage == "" {
		return nil, nil, errors.New("no storage directory: without one each start would request a new certificate, and authorities limit requests")
	}
	var roots *x509.CertPool
	if c.CARoots != "" {
		if roots, err = readRoots(c.CARoots); err != nil {
			return nil, nil, err
		}
	}
	var magic *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return magic, nil },
	})
	context.AfterFunc(ctx, cache.Stop)
	var notAfter atomic.Int64
	magic = certmagic.New(cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: c.Storage},
		OnEvent: func(_ context.Context, event string, data map[string]any) error {
			switch event {
			case "cert_obtained":
				c.Logger.Info("certificate obtained", "name", c.Domain, "renewal", data["renewal"])
			case "cert_failed":
				c.Logger.Warn("certificate not obtained; trying again", "name", c.Domain, "error", data["error"])
			}
			return nil
		},
	})
	magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(magic, certmagic.ACMEIssuer{
		CA: c.CA, Email: c.Email, Agreed: true, TrustedRoots: roots,
		DisableHTTPChallenge: true, AltTLSALPNPort: c.Port,
	})}
	if err := magic.ManageAsync(ctx, []string{c.Domain}); err != nil {
		return nil, nil, err
	}
	config = &tls.Config{
		NextProtos: []string{challenge},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName == "" {
				// Load balancers that probe, and clients that connect by address, send no name.
				hello.ServerName = c.Domain
			}
			cert, err := magic.GetCertificate(hello)
			if err == nil && cert.Leaf != nil && !slices.Contains(hello.SupportedProtos, challenge) {
				notAfter.Store(cert.Leaf.NotAfter.Unix())
			}
			return cert, err
		},
	}
	return config, func() time.Time { return time.Unix(notAfter.Load(), 0) }, nil
}

// maxRootsBytes bounds the file of Config.CARoots.
const maxRootsBytes = 1 << 20

// readRoots reads a PEM file of certificates.
func readRoots(path string) (*x509.CertPool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	pem, err := io.ReadAll(io.LimitReader(f, maxRootsBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(pem) > maxRootsBytes:
		return nil, fmt.Errorf("%s is longer than %d bytes", path, maxRootsBytes)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM", path)
	}
	return roots, nil
}
