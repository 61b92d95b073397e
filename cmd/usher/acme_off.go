//go:build !acme

package main

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
)

// acmeFlags are there in every build, so that their absence can be explained.
type acmeFlags struct {
	ACMEDomain string `name:"acme-domain" help:"Name to get a certificate for by ACME, on port 443 of this machine. Needs a binary built with «make build TAGS=acme»." placeholder:"NAME"`
}

func (acmeFlags) manage(net.Addr, prometheus.Registerer, *closers, *slog.Logger) (*tls.Config, error) {
	return nil, errors.New("this binary was built without ACME, which most have no use for: make build TAGS=acme, or make images TAGS=acme")
}
