package console

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/usher-broker/usher/proto"
)

// checkLocal refuses, in open mode, whatever does not come from a program on
// this machine that means this door. A web page can make a browser here send
// requests: under the page's own name made to point here, or plainly across
// origins. And a proxy here makes everybody local.
func checkLocal(r *http.Request) *proto.Problem {
	switch {
	case !isLoopbackAddr(r.RemoteAddr):
		return forbidden("Without API keys this door serves its own machine only.")
	case len(r.Header.Values("Forwarded"))+len(r.Header.Values("X-Forwarded-For")) > 0:
		return forbidden("Without API keys this door does not serve through a proxy.")
	case !isLoopbackHost(r.Host):
		return forbidden("Without API keys this door answers to localhost and loopback addresses only, not to other names.")
	case isForeignPage(r):
		return forbidden("Without API keys this door does not serve web pages of other origins.")
	}
	return nil
}

// isLoopbackAddr reports whether host:port is an address of this machine only.
func isLoopbackAddr(addr string) bool {
	ap, err := netip.ParseAddrPort(addr)
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// isLoopbackHost looks at a Host header, with or without a port.
func isLoopbackHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// isForeignPage reports whether a browser says that it asks for a page that is
// not from here. Programs that are no browsers say nothing of the kind.
func isForeignPage(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return true
	}
	for _, origin := range r.Header.Values("Origin") {
		if origin != "http://"+r.Host {
			return true
		}
	}
	return false
}
