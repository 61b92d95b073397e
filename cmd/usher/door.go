package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
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
	tls       tlsFlags
	limit     *limitFlags  // of connections; nil for none
	listener  net.Listener // in place of listen, when bound already
	broker    *brokerRole
	keys      *token.KeySet
	providers map[string]credential.Provider
	registry  prometheus.Registerer
	failures  auth.Failures                   // what all auths know of failed logins; nil for none
	waiting   bool                            // logins wait when all is full
	beside    func(http.Handler) http.Handler // adds paths; nil for none
	trusted   []netip.Prefix
	origins   []string
	log       *slog.Logger
}

// maxLoginConnections is the default bound of a login door: they last for a
// request or two, but for those of the waiting room.
const maxLoginConnections = 20_000

// authRole is a running login door.
type authRole struct {
	http *server
	stop closers
}

func startAuth(o authOptions) (*authRole, error) {
	r := &authRole{}
	verifier := &token.Verifier{Keys: o.keys}
	var waiting auth.Tickets
	if o.waiting {
		waiting = tickets{o.keys, verifier}
	}
	a, err := auth.New(auth.Config{
		Tickets: waiting, Throttle: auth.NewThrottle(auth.ThrottleConfig{Shared: o.failures, Logger: o.log}),
		Broker: o.broker.broker, Verifier: verifier, JWKS: o.keys.JWKS,
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
	if o.limit != nil {
		if err := o.limit.check(); err != nil {
			ln.Close()
			return nil, err
		}
		ln = o.limit.limit(ln, maxLoginConnections, o.registry)
	}
	plain := ln
	if ln, _, err = o.tls.secure(ln, o.registry, &r.stop, o.log); err != nil {
		plain.Close()
		return nil, err
	}
	handler := a.Handler()
	if o.beside != nil {
		handler = o.beside(handler)
	}
	r.http = serveOn(ln, handler, o.log)
	r.http.http.RegisterOnShutdown(a.Close)
	return r, nil
}

// tickets signs and verifies the tickets of those who wait.
type tickets struct {
	*token.KeySet
	*token.Verifier
}

func (r *authRole) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r.http.close(ctx)
	r.stop.close()
}
