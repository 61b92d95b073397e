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

// exchangeInterval is how often a member exchanges all states with a random other
// one; from 32 members on it grows with their number.
const exchangeInterval = 10 * time.Second

// listen binds the address and creates the memberlist.
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
		return fmt.Errorf("cluster: the label has %d bytes, at most %d are allowed", len(c.cfg.Label), memberlist.LabelMaxSize)
	}
	if c.ring, err = c.keyring(); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	conf := c.configureList(bind)
	if c.cfg.Advertise != "" {
		at, err := resolve(ctx, "advertise", c.cfg.Advertise)
		if err != nil {
			return err
		}
		if at.Port() == 0 || at.Addr().IsUnspecified() {
			return fmt.Errorf("cluster: advertise %s: must have a specific address and port", c.cfg.Advertise)
		}
		conf.AdvertiseAddr, conf.AdvertisePort = at.Addr().String(), int(at.Port())
	}
	t, err := c.bind(bind, max(last, bind.Port()), conf.Logger)
	if err != nil {
		return err
	}
	conf.Transport, conf.BindPort = t, t.GetAutoBindPort()
	ip, port, err := t.FinalAdvertiseAddr(conf.AdvertiseAddr, conf.AdvertisePort)
	if err == nil && ip.IsUnspecified() {
		err = errors.New("no address was found that other members can reach")
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

// configureList returns the configuration of the memberlist, without its sockets and
// the address to advertise.
func (c *Cluster) configureList(bind netip.AddrPort) *memberlist.Config {
	conf := memberlist.DefaultLANConfig()
	conf.Name, conf.Label = c.cfg.Self.ID, c.cfg.Label
	conf.Keyring = c.ring
	conf.BindAddr = bind.Addr().String()
	// Messages are small and mostly encrypted: compression costs more than it
	// saves.
	conf.EnableCompression = false
	// A member that died may return with another address as soon as the others
	// know that it is dead.
	conf.DeadNodeReclaimTime = time.Second
	// A live member that the others consider dead learns of it in the next
	// exchange of all states with one of them, and refutes it. This interval
	// bounds how long a part of a split cluster stays out.
	conf.PushPullInterval = exchangeInterval
	d := &delegate{c: c}
	conf.Delegate, conf.Events, conf.Conflict = d, d, d
	conf.Logger = log.New(&logBridge{log: c.log, warnings: &c.counts.warnings}, "", 0)
	return conf
}

// allowed returns the networks of members, including this member's own address;
// nil means any.
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

// bind opens the sockets, at the port or at the first free port of the range. A
// port that is free for TCP may be in use for UDP; with port 0 it then tries
// again.
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
			bound := &transport{NetTransport: t, ctx: c.ctx, filter: newNetworkFilter(c.cfg.Networks, &c.counts.foreign), sent: c.sent}
			if bound.filter != nil {
				bound.filter.wg.Go(func() { bound.filter.run(t) })
			}
			return bound, nil
		}
		if port != 0 {
			port++
		}
	}
	return nil, fmt.Errorf("cluster: bind %s: %w", c.cfg.Bind, err)
}

// maxRange bounds a range of ports, because all of them may have to be tried.
const maxRange = 1000

// cutRange splits host:first-last into host:first and last. For a single port,
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
		return "", 0, fmt.Errorf("cluster: bind %q: %q is not a range FIRST-LAST of at most %d ports", hostport, hostport[i+1:], maxRange)
	}
	return hostport[:i+1] + from, uint16(high), nil
}

// resolve returns one address for a host:port. An empty host means all addresses.
// Of several addresses of a name it prefers an IPv4 one.
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
