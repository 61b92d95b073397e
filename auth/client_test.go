package auth

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestClientAddr(t *testing.T) {
	trusted := []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.1.1/32"), netip.MustParsePrefix("fd00::/8"),
	}
	for _, c := range []struct {
		name, remote string
		forwarded    []string
		want         string
	}{
		{"direct", "1.2.3.4:5678", nil, "1.2.3.4"},
		{"direct, IPv6", "[2001:db8::1]:5678", nil, "2001:db8::1"},
		{"direct, mapped", "[::ffff:1.2.3.4]:5678", nil, "1.2.3.4"},
		{"direct, zone", "[fe80::1%eth0]:5678", nil, "fe80::1"},
		{"spoofed by a client", "1.2.3.4:5678", []string{"9.9.9.9"}, "1.2.3.4"},
		{"spoofed by a client, as proxy", "1.2.3.4:5678", []string{"9.9.9.9, 10.0.0.1"}, "1.2.3.4"},
		{"proxy", "10.0.0.1:80", []string{"1.2.3.4"}, "1.2.3.4"},
		{"proxy, mapped", "[::ffff:10.0.0.1]:80", []string{"1.2.3.4"}, "1.2.3.4"},
		{"two proxies", "10.0.0.1:80", []string{"1.2.3.4, 192.168.1.1"}, "1.2.3.4"},
		{"two proxies, two headers", "10.0.0.1:80", []string{"1.2.3.4", "192.168.1.1"}, "1.2.3.4"},
		{"spoofed through a proxy", "10.0.0.1:80", []string{"9.9.9.9, 1.2.3.4"}, "1.2.3.4"},
		{"spoofed through a proxy, two headers", "10.0.0.1:80", []string{"9.9.9.9", "1.2.3.4"}, "1.2.3.4"},
		{"spoofed as a proxy through a proxy", "10.0.0.1:80", []string{"10.1.1.1, 1.2.3.4"}, "1.2.3.4"},
		{"proxy without header", "10.0.0.1:80", nil, "10.0.0.1"},
		{"all trusted", "10.0.0.1:80", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"garbage", "10.0.0.1:80", []string{"unknown"}, "10.0.0.1"},
		{"garbage behind a proxy", "10.0.0.1:80", []string{"1.2.3.4, ?, 10.0.0.2"}, "10.0.0.2"},
		{"empty", "10.0.0.1:80", []string{""}, "10.0.0.1"},
		{"commas", "10.0.0.1:80", []string{",,"}, "10.0.0.1"},
		{"spaces", "10.0.0.1:80", []string{"  1.2.3.4\t,\t10.0.0.2 "}, "1.2.3.4"},
		{"port", "10.0.0.1:80", []string{"1.2.3.4:4711"}, "1.2.3.4"},
		{"IPv6", "10.0.0.1:80", []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv6 in brackets", "10.0.0.1:80", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"IPv6 and port", "[fd00::1]:80", []string{"[2001:db8::1]:443"}, "2001:db8::1"},
		{"very long", "10.0.0.1:80", []string{strings.Repeat("1", 5000)}, "10.0.0.1"},
		{"many", "10.0.0.1:80", []string{strings.Repeat("10.0.0.2,", 2000) + "1.2.3.4"}, "1.2.3.4"},
		{"no address", "@", []string{"1.2.3.4"}, "invalid IP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: c.remote, Header: http.Header{"X-Forwarded-For": c.forwarded}}
			if got := clientAddr(r, trusted); got.String() != c.want {
				t.Errorf("client is %s, want %s", got, c.want)
			}
		})
	}
}
