package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/usher-broker/usher/proto"
)

// publicURL is the URL that clients of a node are given, or will be once its
// port is known.
type publicURL struct {
	url string // with a port range still in it if first is set
	why string // where it comes from, for the log

	first, last int // ports of which one leads here; 0 if that need not be found out
}

// portRange is a range in place of a URL's port.
var portRange = regexp.MustCompile(`^(wss?://[^/?#]+:)(\d{1,5})-(\d{1,5})((?:[/?#].*)?)$`)

// publish works out at what URL clients reach a node that listens at bound. What
// --advertise says is never overridden; without it only an address that was
// named in --listen will do, since every other would be a guess.
func publish(advertise, id string, bound net.Addr, secure bool) (publicURL, error) {
	if advertise == "" {
		return fromListen(bound, secure)
	}
	fail := func(format string, args ...any) (publicURL, error) {
		return publicURL{}, usageError{"--advertise", fmt.Errorf(format, args...)}
	}
	text, err := expand(advertise, id, bound)
	if err != nil {
		return fail("%w", err)
	}
	p := publicURL{why: "--advertise"}
	plain := text
	if m := portRange.FindStringSubmatch(text); m != nil {
		p.first, _ = strconv.Atoi(m[2])
		p.last, _ = strconv.Atoi(m[3])
		if p.first < 1 || p.last > 65535 || p.first > p.last || p.last-p.first >= maxRange {
			return fail("%s-%s is not a range of at most %d ports", m[2], m[3], maxRange)
		}
		if at, err := netip.ParseAddrPort(bound.String()); err == nil && int(at.Port()) >= p.first && int(at.Port()) <= p.last {
			// Inside a container its own name may mean itself: it would find the
			// port that it listens on, and not the one that is published.
			return fail("this node listens on port %d itself: let --listen be outside %s-%s", at.Port(), m[2], m[3])
		}
		p.why = "--advertise, its port found by looking"
		plain = m[1] + m[2] + m[4]
	}
	u, err := url.Parse(plain)
	switch {
	case err != nil:
		return fail("%w", err)
	case u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" || u.User != nil || u.Fragment != "":
		return fail("%q is not a URL such as wss://node-7.example.com:7000%s", text, proto.ConnectPath)
	case u.Scheme == "ws" && secure:
		return fail("%q is without TLS, and this node has a certificate: clients must be sent to wss://", text)
	case u.Path == "" || u.Path == "/":
		u.Path = proto.ConnectPath
	}
	p.url = u.String()
	return p, nil
}

// at returns the URL with the port that was found.
func (p publicURL) at(port int) string {
	u, err := url.Parse(p.url)
	if err != nil {
		return p.url // it was parsed before
	}
	u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(port))
	return u.String()
}

func fromListen(bound net.Addr, secure bool) (publicURL, error) {
	at, err := netip.ParseAddrPort(bound.String())
	if err != nil {
		return publicURL{}, err
	}
	if at.Addr().IsUnspecified() {
		hint := ""
		if ip, err := machineAddr(); err == nil {
			hint = fmt.Sprintf(". If that is %s, say --advertise 'ws://{ip}:{port}'", ip)
		}
		return publicURL{}, usageError{"--advertise", fmt.Errorf("is required when --listen names no address: "+
			"this node listens on %s and cannot know at which of its addresses clients reach it%s", bound, hint)}
	}
	scheme := "ws"
	if secure {
		scheme = "wss"
	}
	return publicURL{url: scheme + "://" + at.String() + proto.ConnectPath, why: "--listen, which names one address"}, nil
}

// expand fills in what stands in braces.
func expand(template, id string, bound net.Addr) (string, error) {
	at, err := netip.ParseAddrPort(bound.String())
	if err != nil {
		return "", err
	}
	ip := at.Addr().Unmap()
	if ip.IsUnspecified() && strings.Contains(template, "{ip") {
		if ip, err = machineAddr(); err != nil {
			return "", fmt.Errorf("{ip}: %w; name the address in --listen", err)
		}
	}
	host, err := os.Hostname()
	if err != nil && strings.Contains(template, "{hostname}") {
		return "", err
	}
	inURL := ip.String()
	if ip.Is6() {
		inURL = "[" + inURL + "]"
	}
	text := strings.NewReplacer(
		"{node}", url.PathEscape(id), "{hostname}", host, "{port}", strconv.Itoa(int(at.Port())),
		"{ip}", inURL, "{ip-dashed}", strings.NewReplacer(".", "-", ":", "-").Replace(ip.String()),
	).Replace(template)
	if strings.ContainsAny(text, "{}") {
		return "", fmt.Errorf("%q: of what can stand in braces there are {node}, {ip}, {ip-dashed}, {port} and {hostname}", template)
	}
	return text, nil
}

// machineAddr is the address from which this machine sends to the world, or the
// only one that it has.
func machineAddr() (netip.Addr, error) {
	for _, world := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		c, err := net.Dial("udp", world) // sends nothing, but has a route looked up
		if err != nil {
			continue
		}
		at, err := netip.ParseAddrPort(c.LocalAddr().String())
		c.Close()
		if err == nil && !at.Addr().IsLoopback() {
			return at.Addr().Unmap(), nil
		}
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	var found []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
			found = append(found, p.Addr().Unmap())
		}
	}
	if len(found) != 1 {
		return netip.Addr{}, errors.New("this machine has no route to the world, and not one address but " + strconv.Itoa(len(found)))
	}
	return found[0], nil
}
