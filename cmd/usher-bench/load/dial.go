package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrElsewhere says that a target is not on this machine.
var ErrElsewhere = errors.New("is not this machine")

// Dialer opens connections to the target of a load test. It is safe for concurrent
// use.
type Dialer struct {
	Timeout time.Duration // of a dial, a handshake or a request
	TLS     *tls.Config   // for https and wss

	// Anywhere allows targets on other machines.
	Anywhere bool
	// Process is the index of this process. It selects the local addresses for loopback
	// targets: one address has ports for about 28,000 connections to another.
	Process int

	dialed atomic.Uint32
}

// sources is the number of addresses of 127.0.0.0/8 that a process dials from.
const sources = 8

// Dial connects to the host of the URL, with TLS if the scheme is https or wss.
func (d *Dialer) Dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	port, secure := u.Port(), u.Scheme == "https" || u.Scheme == "wss"
	switch {
	case port == "" && secure:
		port = "443"
	case port == "":
		port = "80"
	}
	conn, err := d.DialAddr(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil || !secure {
		return conn, err
	}
	cfg := d.TLS.Clone()
	if cfg == nil {
		cfg = &tls.Config{}
	}
	if cfg.ServerName == "" {
		cfg.ServerName = u.Hostname()
	}
	t := tls.Client(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return t, nil
}

// DialAddr connects to an address, without TLS.
func (d *Dialer) DialAddr(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	nd := net.Dialer{Control: d.control, LocalAddr: d.source(host)}
	return nd.DialContext(ctx, network, addr)
}

// source returns the local address for a connection to host, or nil for any.
func (d *Dialer) source(host string) net.Addr {
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.Is4() || !ip.IsLoopback() {
		return nil
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+d.Process), byte(1+d.dialed.Add(1)%sources))}
}

// control refuses addresses of other machines, after names were resolved: a load test of
// a cluster of somebody else is an attack.
func (d *Dialer) control(_, address string, _ syscall.RawConn) error {
	if d.Anywhere {
		return nil
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if local, err := isLocal(to.Addr().Unmap().WithZone("")); local || err != nil {
		return err
	}
	return fmt.Errorf("%s %w", address, ErrElsewhere)
}

// isLocal reports whether ip is an address of this machine.
func isLocal(ip netip.Addr) (bool, error) {
	if ip.IsLoopback() {
		return true, nil
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return false, err
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip.AsSlice()) {
			return true, nil
		}
	}
	return false, nil
}
