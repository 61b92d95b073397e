// Package acme gets certificates from a certificate authority by ACME (RFC 8555).
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
)

// Config says what certificate is wanted.
type Config struct {
	Domain  string       // name of this machine, and of no other
	Email   string       // for the authority to write to; may be empty
	CA      string       // URL of the authority's directory; Let's Encrypt if empty
	CARoots string       // file of the certificates to verify the authority's door with; the system's if empty
	Storage string       // folder for the account, the certificate and its key
	Port    int          // that is listened on, which the authority reaches as port 443
	Logger  *slog.Logger // what comes of it; each step the library tells on standard error
}

// challenge is the protocol by which the authority sees that the name leads here
// (RFC 8737). It needs no port but the one that is served anyway.
const challenge = "acme-tls/1"

// Manage gets the certificate, and others in its place before it expires, until
// ctx ends. It does not wait for the first: until that has come, handshakes
// fail. expires tells when the certificate last shown does, and 1970 before.
func Manage(ctx context.Context, c Config) (config *tls.Config, expires func() time.Time, err error) {
	if c.Storage == "" {
		return nil, nil, errors.New("no folder to keep the certificate in: authorities limit how often they give another")
	}
	var roots *x509.CertPool
	if c.CARoots != "" {
		pem, err := os.ReadFile(c.CARoots)
		if err != nil {
			return nil, nil, err
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("%s has no certificate in PEM", c.CARoots)
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
				// Probes of load balancers, and clients that go by address.
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
