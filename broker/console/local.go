package console

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/usher-broker/usher/proto"
)

// checkLocal accepts, in local mode, only requests from a program on this machine that
// are meant for this API. A web page can make a browser on this machine send requests,
// by DNS rebinding of the page's own host name or across origins. A proxy on this
// machine makes the requests of other machines look local.
func checkLocal(r *http.Request) *proto.Problem {
	switch {
	case !isLoopbackAddr(r.RemoteAddr):
		return forbidden("Without API keys, this API serves requests from its own machine only.")
	case len(r.Header.Values("Forwarded"))+len(r.Header.Values("X-Forwarded-For")) > 0:
		return forbidden("Without API keys, this API does not serve requests through a proxy.")
	case !isLoopbackHost(r.Host):
		return forbidden("Without API keys, this API serves localhost and loopback addresses only, no other host names.")
	case isForeignPage(r):
		return forbidden("Without API keys, this API does not serve web pages of other origins.")
	}
	return nil
}

// isLoopbackAddr reports whether host:port is a loopback address.
func isLoopbackAddr(addr string) bool {
	ap, err := netip.ParseAddrPort(addr)
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// isLoopbackHost reports whether a Host header, with or without a port, names localhost
// or a loopback address.
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

// isForeignPage reports whether a browser makes the request for a page of another origin.
// Programs that are not browsers do not send these headers.
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
