package auth

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// clientAddr returns the address of the client that sent the request. This is the
// address of the connection or, if a trusted proxy has that address, the right-most
// address in X-Forwarded-For that is not trusted. The client itself may have written
// the addresses to the left of it. clientAddr returns the zero Addr if the connection
// has no IP address.
func clientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	addr := parseAddr(r.RemoteAddr)
	if !isTrusted(addr, trusted) {
		return addr
	}
	for _, line := range slices.Backward(r.Header.Values("X-Forwarded-For")) {
		for line != "" {
			i := strings.LastIndexByte(line, ',')
			next := parseAddr(strings.Trim(line[i+1:], " \t"))
			if !next.IsValid() {
				return addr // the last valid one
			}
			if addr = next; !isTrusted(addr, trusted) {
				return addr
			}
			line = line[:max(i, 0)]
		}
	}
	return addr
}

// parseAddr reads an IP address, with or without a port.
func parseAddr(s string) netip.Addr {
	if len(s) > 64 {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}
		}
		addr = withPort.Addr()
	}
	return addr.Unmap().WithZone("")
}

func isTrusted(addr netip.Addr, trusted []netip.Prefix) bool {
	return addr.IsValid() && slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}
