package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/cmd/usher/acme"
)

// acmeFlags are the flags of a door that gets its certificate by itself.
type acmeFlags struct {
	ACMEDomain  string `name:"acme-domain" help:"Name of this machine, to get a certificate for by ACME. The authority must reach this door at port 443 of the name." placeholder:"NAME"`
	ACMEEmail   string `name:"acme-email" help:"Where the authority may write to." placeholder:"ADDRESS"`
	ACMEStorage string `name:"acme-storage" help:"Folder that keeps the account and the certificate." type:"path" default:"acme" placeholder:"DIR"`
	ACMECA      string `name:"acme-ca" help:"URL of the authority's directory. Default: Let's Encrypt." placeholder:"URL"`
	ACMECARoots string `name:"acme-ca-roots" help:"File of the certificates that the authority's own is verified with, in place of the system's." type:"path" placeholder:"FILE"`
}

func (f acmeFlags) manage(at net.Addr, reg prometheus.Registerer, stop *closers, log *slog.Logger) (*tls.Config, error) {
	ctx, cancel := context.WithCancel(context.Background())
	stop.add(cancel)
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
