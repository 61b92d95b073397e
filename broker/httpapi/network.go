package httpapi

import "net/netip"

// ClientNetwork returns the network that counts as one client, which is what a
// provider assigns to one customer: an IPv4 address, or an IPv6 /64. It returns
// the zero prefix if addr is not valid.
func ClientNetwork(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // bits fits the address
	return p
}
