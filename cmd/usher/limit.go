package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/auth"
)

// limitFlags bound the connections of a public door. What is beyond is closed
// before a byte of it is read.
type limitFlags struct {
	MaxConnections           int            `help:"Connections at once, of all clients. 0: a third more than --max-sessions for a node, 20000 for auth." default:"0" placeholder:"N"`
	MaxConnectionsPerAddress int            `help:"Connections at once from one address; of IPv6, from one /64. 0: any number." default:"2000" placeholder:"N"`
	UnlimitedNetworks        []netip.Prefix `help:"Networks from which any number may come: proxies, load tests." default:"127.0.0.0/8,::1/128" placeholder:"CIDR"`
}

func (f limitFlags) check() error {
	switch {
	case f.MaxConnections < 0:
		return usageError{"--max-connections", fmt.Errorf("%d: must be 0 or more", f.MaxConnections)}
	case f.MaxConnectionsPerAddress < 0:
		return usageError{"--max-connections-per-address", fmt.Errorf("%d: must be 0 or more", f.MaxConnectionsPerAddress)}
	}
	return nil
}

// limit bounds the connections that the listener accepts.
func (f limitFlags) limit(ln net.Listener, most int, reg prometheus.Registerer) net.Listener {
	if f.MaxConnections > 0 {
		most = f.MaxConnections
	}
	l := &limitedListener{
		Listener: ln, most: most, each: f.MaxConnectionsPerAddress, free: f.UnlimitedNetworks, from: map[netip.Prefix]int{},
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_connections_refused_total", Help: "Connections closed unread, by what there are too many of: all, or those of their address.",
		}, []string{"limit"}),
	}
	l.refused.WithLabelValues("all")
	l.refused.WithLabelValues("address")
	reg.MustRegister(l.refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "usher_connections", Help: "Connections of the public door that are open.",
	}, func() float64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		return float64(l.open)
	}))
	return l
}

// limitedListener is a listener that has only so many connections open.
type limitedListener struct {
	net.Listener
	most, each int
	free       []netip.Prefix
	refused    *prometheus.CounterVec

	mu   sync.Mutex
	open int
	from map[netip.Prefix]int // of addresses that count
}

// Accept returns the next connection that there is room for.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := sourceOf(c.RemoteAddr())
		limit, err := l.enter(source)
		if err == nil {
			return &limitedConn{Conn: c, listener: l, source: source}, nil
		}
		l.refused.WithLabelValues(limit).Inc()
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // leaves nothing behind in the kernel either
		}
		c.Close()
	}
}

var errTooMany = errors.New("too many connections")

// limitedConn is a connection that counts until it is closed.
type limitedConn struct {
	net.Conn
	listener *limitedListener
	source   netip.Prefix
	closed   atomic.Bool
}

func (c *limitedConn) Close() error {
	if !c.closed.Swap(true) {
		c.listener.leave(c.source)
	}
	return c.Conn.Close()
}

// SyscallConn lets the node wait for bytes in the kernel, as it does on a plain
// connection.
func (c *limitedConn) SyscallConn() (syscall.RawConn, error) {
	s, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return s.SyscallConn()
}

func (l *limitedListener) enter(source netip.Prefix) (limit string, err error) {
	counted := l.each > 0 && source.IsValid() && !slices.ContainsFunc(l.free, func(p netip.Prefix) bool { return p.Contains(source.Addr()) })
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open >= l.most:
		return "all", errTooMany
	case counted && l.from[source] >= l.each:
		return "address", errTooMany
	}
	l.open++
	if counted {
		l.from[source]++
	}
	return "", nil
}

func (l *limitedListener) leave(source netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	switch n := l.from[source]; {
	case n > 1:
		l.from[source] = n - 1
	case n == 1:
		delete(l.from, source)
	}
}

// sourceOf is what counts as one client; nothing where there is no address.
func sourceOf(addr net.Addr) netip.Prefix {
	at, _ := netip.ParseAddrPort(addr.String())
	return auth.Network(at.Addr().Unmap().WithZone(""))
}
