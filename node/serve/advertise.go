package serve

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

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/proto"
)

// publicURL is the URL at which clients reach a node. Its port may have to be
// discovered first.
type publicURL struct {
	url    string // with a port range still in it if first is set
	source string // where it comes from, for the log

	first, last int // ports of which one leads to this node; 0 if the port is known
}

// portRange matches a URL with a range in place of its port.
var portRange = regexp.MustCompile(`^(wss?://[^/?#]+:)(\d{1,5})-(\d{1,5})((?:[/?#].*)?)$`)

// publicURLOf returns the URL at which clients reach a node that listens at bound.
// It never overrides --advertise. Without --advertise it uses the address of
// --listen if that names one; any other address would be a guess.
func publicURLOf(advertise, id string, bound net.Addr, secure bool) (publicURL, error) {
	if advertise == "" {
		return fromListen(bound, secure)
	}
	fail := func(format string, args ...any) (publicURL, error) {
		return publicURL{}, process.FlagError{Flag: "--advertise", Err: fmt.Errorf(format, args...)}
	}
	text, err := expand(advertise, id, bound)
	if err != nil {
		return fail("%w", err)
	}
	p := publicURL{source: "--advertise"}
	plain := text
	if m := portRange.FindStringSubmatch(text); m != nil {
		p.first, _ = strconv.Atoi(m[2])
		p.last, _ = strconv.Atoi(m[3])
		if p.first < 1 || p.last > 65535 || p.first > p.last || p.last-p.first >= process.MaxPortRange {
			return fail("%s-%s is not a range of at most %d ports", m[2], m[3], process.MaxPortRange)
		}
		if at, err := netip.ParseAddrPort(bound.String()); err == nil && int(at.Port()) >= p.first && int(at.Port()) <= p.last {
			// In a container its public name may lead to the container itself: it would
			// find the port it listens on, not the published one.
			return fail("this node listens on port %d: choose a --listen port outside %s-%s", at.Port(), m[2], m[3])
		}
		p.source = "--advertise, with a discovered port"
		plain = m[1] + m[2] + m[4]
	}
	u, err := url.Parse(plain)
	switch {
	case err != nil:
		return fail("%w", err)
	case u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" || u.User != nil || u.Fragment != "":
		return fail("%q is not a URL such as wss://node-7.example.com:7000%s", text, proto.ConnectPath)
	case u.Scheme == "ws" && secure:
		return fail("%q is without TLS, but this node serves TLS: use wss://", text)
	case u.Path == "" || u.Path == "/":
		u.Path = proto.ConnectPath
	}
	p.url = u.String()
	return p, nil
}

// at returns the URL with the port.
func (p publicURL) at(port int) string {
	u, err := url.Parse(p.url)
	if err != nil {
		return p.url // cannot happen: publicURLOf has parsed it
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
			hint = fmt.Sprintf(". If they use %s, set --advertise 'ws://{ip}:{port}'", ip)
		}
		return publicURL{}, process.FlagError{Flag: "--advertise", Err: fmt.Errorf("is required when --listen names no address: "+
			"this node listens on %s and cannot know which of its addresses clients use%s", bound, hint)}
	}
	scheme := "ws"
	if secure {
		scheme = "wss"
	}
	return publicURL{url: scheme + "://" + at.String() + proto.ConnectPath, source: "--listen"}, nil
}

// expand replaces the names in braces.
func expand(template, id string, bound net.Addr) (string, error) {
	at, err := netip.ParseAddrPort(bound.String())
	if err != nil {
		return "", err
	}
	ip := at.Addr().Unmap()
	if ip.IsUnspecified() && strings.Contains(template, "{ip") {
		if ip, err = machineAddr(); err != nil {
			return "", fmt.Errorf("{ip}: %w; set --listen to one address", err)
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
		return "", fmt.Errorf("%q: the names in braces are {node}, {ip}, {ip-dashed}, {port} and {hostname}", template)
	}
	return text, nil
}

// machineAddr returns the address from which this machine sends to the internet,
// or the only one it has.
func machineAddr() (netip.Addr, error) {
	for _, world := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		c, err := net.Dial("udp", world) // looks up a route and sends nothing
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
		return netip.Addr{}, errors.New("this machine has no default route, and the number of its addresses is not 1 but " + strconv.Itoa(len(found)))
	}
	return found[0], nil
}
