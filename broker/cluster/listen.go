package cluster

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// exchangeInterval is how often a member exchanges all states with another one;
// from 32 members on it rises with their number.
const exchangeInterval = 10 * time.Second

// listen binds and creates the memberlist.
func (c *Cluster) listen(ctx context.Context) error {
	at, last, err := cutRange(c.cfg.Bind)
	if err != nil {
		return err
	}
	bind, err := resolve(ctx, "bind", at)
	if err != nil {
		return err
	}
	if err := checkKeys(c.cfg.Key, c.cfg.OldKeys); err != nil {
		return err
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
	if c.ring, err = c.keyring(); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	conf.Keyring = c.ring
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
	// A member that the others took for dead, and that sees them alive, hears of it
	// when it next exchanges all states with one of them, and refutes it. This is
	// how long a part of a cluster that was split may stay out.
	conf.PushPullInterval = exchangeInterval
	d := &delegate{c: c}
	conf.Delegate, conf.Events, conf.Conflict = d, d, d
	conf.Logger = log.New(&logBridge{log: c.log, warnings: &c.counts.warnings}, "", 0)

	t, err := c.bind(bind, max(last, bind.Port()), conf.Logger)
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
		conf.CIDRsAllowed = c.allowed(ip)
		c.list, err = memberlist.Create(conf)
	}
	if err != nil {
		t.abandon()
		return fmt.Errorf("cluster: bind %s: %w; set the address to advertise", c.cfg.Bind, err)
	}
	return nil
}

// allowed returns the networks from which members may be, this one's own address
// among them; nil for any.
func (c *Cluster) allowed(self net.IP) []net.IPNet {
	var list []net.IPNet
	for _, p := range c.cfg.Networks {
		list = append(list, net.IPNet{IP: p.Masked().Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	if list != nil {
		bits := 8 * len(self)
		list = append(list, net.IPNet{IP: self, Mask: net.CIDRMask(bits, bits)})
	}
	return list
}

// bind opens the sockets, at the port or, of a range, the first that is free. The
// port of TCP may be taken for UDP: when any would do, another is tried.
func (c *Cluster) bind(at netip.AddrPort, last uint16, logger *log.Logger) (*transport, error) {
	tries := 1 + int(last-at.Port())
	if at.Port() == 0 {
		tries = 10
	}
	var err error
	port := int(at.Port())
	for range tries {
		var t *memberlist.NetTransport
		t, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{at.Addr().String()}, BindPort: port, Logger: logger,
		})
		if err == nil {
			bound := &transport{NetTransport: t, ctx: c.ctx, guard: guarded(c.cfg.Networks, &c.counts.foreign), sent: c.sent}
			if bound.guard != nil {
				go bound.guard.run(t)
			}
			return bound, nil
		}
		if port != 0 {
			port++
		}
	}
	return nil, fmt.Errorf("cluster: bind %s: %w", c.cfg.Bind, err)
}

// maxRange bounds a range of ports: all of them may have to be tried.
const maxRange = 1000

// cutRange takes host:first-last apart, into host:first and last; of one port,
// last is 0.
func cutRange(hostport string) (first string, last uint16, err error) {
	i := strings.LastIndexByte(hostport, ':')
	from, to, ok := strings.Cut(hostport[i+1:], "-")
	if !ok {
		return hostport, 0, nil
	}
	low, err1 := strconv.ParseUint(from, 10, 16)
	high, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || low == 0 || low > high || high-low >= maxRange {
		return "", 0, fmt.Errorf("cluster: bind %q: %q is not a range of at most %d ports", hostport, hostport[i+1:], maxRange)
	}
	return hostport[:i+1] + from, uint16(high), nil
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
