package cluster

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
)

const keyBytes = 32

// listen binds and creates the memberlist.
func (c *Cluster) listen(ctx context.Context) error {
	bind, err := resolve(ctx, "bind", c.cfg.Bind)
	if err != nil {
		return err
	}
	if len(c.cfg.Key) != 0 && len(c.cfg.Key) != keyBytes {
		return fmt.Errorf("cluster: the key has %d bytes, want %d", len(c.cfg.Key), keyBytes)
	}
	if len(c.cfg.Key) == 0 && !bind.Addr().IsLoopback() {
		return fmt.Errorf("cluster: bind %s: gossip beyond loopback requires a key", c.cfg.Bind)
	}
	if len(c.cfg.Label) > memberlist.LabelMaxSize {
		return fmt.Errorf("cluster: the label has %d bytes, more than %d", len(c.cfg.Label), memberlist.LabelMaxSize)
	}
	conf := memberlist.DefaultLANConfig()
	conf.Name = c.cfg.Self.ID
	conf.Label = c.cfg.Label
	conf.SecretKey = c.cfg.Key
	conf.BindAddr = bind.Addr().String()
	if c.cfg.Advertise != "" {
		at, err := resolve(ctx, "advertise", c.cfg.Advertise)
		if err != nil {
			return err
		}
		if at.Port() == 0 || at.Addr().IsUnspecified() {
			return fmt.Errorf("cluster: advertise %s: others need an address and a port", c.cfg.Advertise)
		}
		conf.AdvertiseAddr, conf.AdvertisePort = at.Addr().String(), int(at.Port())
	}
	// Records are small and mostly encrypted; packing each costs more than it
	// saves.
	conf.EnableCompression = false
	// A member that died may come back at another address as soon as the
	// others know that it is dead.
	conf.DeadNodeReclaimTime = time.Second
	d := &delegate{c: c}
	conf.Delegate, conf.Events, conf.Conflict = d, d, d
	conf.Logger = log.New(&logBridge{log: c.log, warnings: &c.counts.warnings}, "", 0)

	t, err := c.bind(bind, conf.Logger)
	if err != nil {
		return err
	}
	conf.Transport, conf.BindPort = t, t.GetAutoBindPort()
	ip, port, err := t.FinalAdvertiseAddr(conf.AdvertiseAddr, conf.AdvertisePort)
	if err == nil && ip.IsUnspecified() {
		err = errors.New("it would advertise no address that others can reach")
	}
	if err == nil {
		c.addr = net.JoinHostPort(ip.String(), strconv.Itoa(port))
		c.list, err = memberlist.Create(conf)
	}
	if err != nil {
		t.abandon()
		return fmt.Errorf("cluster: bind %s: %w; set the address to advertise", c.cfg.Bind, err)
	}
	return nil
}

// bind opens the sockets. The port of TCP may be taken for UDP: when any would
// do, another is tried.
func (c *Cluster) bind(at netip.AddrPort, logger *log.Logger) (*transport, error) {
	tries := 1
	if at.Port() == 0 {
		tries = 10
	}
	var err error
	for range tries {
		var t *memberlist.NetTransport
		t, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{at.Addr().String()}, BindPort: int(at.Port()), Logger: logger,
		})
		if err == nil {
			return &transport{NetTransport: t, ctx: c.ctx}, nil
		}
	}
	return nil, fmt.Errorf("cluster: bind %s: %w", c.cfg.Bind, err)
}

// resolve finds the one address that a host:port means. No host is all
// addresses; of a name's addresses an IPv4 one is preferred.
func resolve(ctx context.Context, what, hostport string) (netip.AddrPort, error) {
	fail := func(err error) (netip.AddrPort, error) {
		return netip.AddrPort{}, fmt.Errorf("cluster: %s %q: %w", what, hostport, err)
	}
	host, service, err := net.SplitHostPort(hostport)
	if err != nil {
		return fail(err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return fail(fmt.Errorf("port %q is not a number up to 65535", service))
	}
	if host == "" {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port)), nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return fail(err)
	}
	best := ips[0].Unmap()
	for _, ip := range ips {
		if ip = ip.Unmap(); ip.Is4() {
			best = ip
			break
		}
	}
	return netip.AddrPortFrom(best, uint16(port)), nil
}
