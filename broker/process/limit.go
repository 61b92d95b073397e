package process

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

	"github.com/usher-broker/usher/broker/httpapi"
)

// LimitFlags bound the connections of a public listener. A connection over a
// limit is closed before a byte of it is read.
type LimitFlags struct {
	MaxConnections           int            `help:"Open connections, of all clients. 0: a third more than --max-sessions for a node, 20000 for auth." default:"0" placeholder:"N"`
	MaxConnectionsPerAddress int            `help:"Open connections from one IPv4 address or one IPv6 /64. 0: no limit." default:"2000" placeholder:"N"`
	UnlimitedNetworks        []netip.Prefix `help:"Networks to which the limit per address does not apply, such as those of proxies and load tests." default:"127.0.0.0/8,::1/128" placeholder:"CIDR"`
}

// Check reports a value that is out of range.
func (f LimitFlags) Check() error {
	switch {
	case f.MaxConnections < 0:
		return FlagError{"--max-connections", fmt.Errorf("%d: must be 0 or more", f.MaxConnections)}
	case f.MaxConnectionsPerAddress < 0:
		return FlagError{"--max-connections-per-address", fmt.Errorf("%d: must be 0 or more", f.MaxConnectionsPerAddress)}
	}
	return nil
}

// Limit returns a listener that applies the limits. most is the limit of all
// connections when --max-connections is 0.
func (f LimitFlags) Limit(ln net.Listener, most int, reg prometheus.Registerer) net.Listener {
	if f.MaxConnections > 0 {
		most = f.MaxConnections
	}
	l := &limitedListener{
		Listener: ln, most: most, each: f.MaxConnectionsPerAddress, unlimited: f.UnlimitedNetworks, from: map[netip.Prefix]int{},
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_connections_refused_total", Help: "Connections closed unread, by the limit that was reached: all, or address.",
		}, []string{"limit"}),
	}
	l.refused.WithLabelValues("all")
	l.refused.WithLabelValues("address")
	reg.MustRegister(l.refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "usher_connections", Help: "Open connections of the public listener.",
	}, func() float64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		return float64(l.open)
	}))
	return l
}

// limitedListener bounds the open connections of a listener.
type limitedListener struct {
	net.Listener
	most, each int
	unlimited  []netip.Prefix
	refused    *prometheus.CounterVec

	mu   sync.Mutex
	open int
	from map[netip.Prefix]int // connections from networks that the limit applies to
}

// Accept returns the next connection within the limits.
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
			_ = tcp.SetLinger(0) // so that the kernel keeps nothing of it either
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
	counted := l.each > 0 && source.IsValid() && !slices.ContainsFunc(l.unlimited, func(p netip.Prefix) bool { return p.Contains(source.Addr()) })
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

// sourceOf returns the network that counts as one client, or the zero prefix if
// addr has no IP address.
func sourceOf(addr net.Addr) netip.Prefix {
	at, _ := netip.ParseAddrPort(addr.String())
	return httpapi.ClientNetwork(at.Addr().Unmap().WithZone(""))
}
