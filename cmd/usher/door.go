package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/auth"
	"github.com/usher-broker/usher/auth/credential"
	"github.com/usher-broker/usher/broker/token"
)

// authOptions are what the login door needs of the process it runs in.
type authOptions struct {
	listen    string
	listener  net.Listener // in place of listen, when bound already
	broker    *brokerRole
	keys      *token.KeySet
	providers map[string]credential.Provider
	registry  prometheus.Registerer
	trusted   []netip.Prefix
	origins   []string
	log       *slog.Logger
}

// authRole is a running login door.
type authRole struct {
	http *server
	auth *auth.Server
}

func startAuth(o authOptions) (*authRole, error) {
	a, err := auth.New(auth.Config{
		Broker: o.broker.broker, Verifier: &token.Verifier{Keys: o.keys}, JWKS: o.keys.JWKS,
		Providers: o.providers, Registry: o.registry, TrustedProxies: o.trusted, Origins: o.origins, Logger: o.log,
	})
	if err != nil {
		return nil, err
	}
	ln := o.listener
	if ln == nil {
		if ln, err = net.Listen("tcp", o.listen); err != nil {
			return nil, usageError{"--listen", err}
		}
	}
	return &authRole{http: serveOn(ln, a.Handler(), o.log), auth: a}, nil
}

func (r *authRole) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r.http.close(ctx)
}
