// Package serve runs the login API of an auth as part of a process. usher auth and
// the development cluster (package node/dev) are made of it.
package serve

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/auth"
	"github.com/usher-broker/usher/auth/credential"
	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/broker/token"
)

// Options are what the login API needs. Broker, Keys, Providers, Registry and
// Logger are required.
type Options struct {
	Listener    net.Listener
	TLS         process.TLSFlags
	Limits      *process.LimitFlags // of connections; nil for none
	Broker      *broker.Broker
	Keys        *token.KeySet
	Providers   map[string]credential.Provider
	Registry    prometheus.Registerer
	Failures    auth.Failures                   // failed logins counted by all auths together; nil for none
	WaitingRoom bool                            // logins wait when every node is full
	Wrap        func(http.Handler) http.Handler // adds paths to the API; nil for none
	Trusted     []netip.Prefix                  // proxies whose X-Forwarded headers are used
	Origins     []string
	Logger      *slog.Logger
}

// maxConnections is the default limit of open connections. A connection lasts for
// a request or two, except in the waiting room.
const maxConnections = 20_000

// Auth is a running login API.
type Auth struct {
	http *process.Server
	stop process.Closers
}

// Start serves the login API on the listener. On an error it closes the listener.
func Start(o Options) (_ *Auth, err error) {
	r := &Auth{}
	ln := o.Listener
	defer func() {
		if err != nil {
			ln.Close()
			r.stop.Close()
		}
	}()
	verifier := &token.Verifier{Keys: o.Keys}
	var waiting auth.Tickets
	if o.WaitingRoom {
		waiting = tickets{o.Keys, verifier}
	}
	a, err := auth.New(auth.Config{
		Tickets: waiting, Throttle: auth.NewThrottle(auth.ThrottleConfig{Shared: o.Failures, Logger: o.Logger}),
		Broker: o.Broker, Verifier: verifier, JWKS: o.Keys.JWKS,
		Providers: o.Providers, Registry: o.Registry, TrustedProxies: o.Trusted, Origins: o.Origins, Logger: o.Logger,
	})
	if err != nil {
		return nil, err
	}
	if o.Limits != nil {
		if err := o.Limits.Check(); err != nil {
			return nil, err
		}
		ln = o.Limits.Limit(ln, maxConnections, o.Registry)
	}
	secured, _, err := o.TLS.Secure(ln, o.Registry, &r.stop, o.Logger)
	if err != nil {
		return nil, err
	}
	handler := a.Handler()
	if o.Wrap != nil {
		handler = o.Wrap(handler)
	}
	r.http = process.Serve(secured, handler, o.Logger)
	r.http.OnClose(a.Close)
	return r, nil
}

// Addr returns the address that the API listens on.
func (r *Auth) Addr() string { return r.http.Addr() }

// Close waits up to 5 s for the requests in progress and stops.
func (r *Auth) Close() {
	r.http.Close(5 * time.Second)
	r.stop.Close()
}

// tickets signs and verifies queue tickets.
type tickets struct {
	*token.KeySet
	*token.Verifier
}
