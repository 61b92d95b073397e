package process

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker/process/acme"
)

// ACMEFlags are the flags of a listener that gets its certificate by ACME.
type ACMEFlags struct {
	ACMEDomain  string `name:"acme-domain" help:"Name of this machine, to get a certificate for by ACME. The authority must reach this listener at port 443 of the name." placeholder:"NAME"`
	ACMEEmail   string `name:"acme-email" help:"Address that the authority may write to." placeholder:"ADDRESS"`
	ACMEStorage string `name:"acme-storage" help:"Directory for the ACME account and the certificate." type:"path" default:"acme" placeholder:"DIR"`
	ACMECA      string `name:"acme-ca" help:"URL of the authority's ACME directory. Default: Let's Encrypt." placeholder:"URL"`
	ACMECARoots string `name:"acme-ca-roots" help:"PEM file of the certificates that verify the authority's own, in place of the system's." type:"path" placeholder:"FILE"`
}

func (f ACMEFlags) manage(at net.Addr, reg prometheus.Registerer, stop *Closers, log *slog.Logger) (*tls.Config, error) {
	ctx, cancel := context.WithCancel(context.Background())
	stop.Add(cancel)
	port := 443
	if tcp, ok := at.(*net.TCPAddr); ok {
		port = tcp.Port
	}
	config, expires, err := acme.Manage(ctx, acme.Config{
		Domain: f.ACMEDomain, Email: f.ACMEEmail, CA: f.ACMECA, CARoots: f.ACMECARoots, Storage: f.ACMEStorage, Port: port, Logger: log,
	})
	if err == nil {
		reg.MustRegister(expiryGauge(expires))
	}
	return config, err
}
