package serve

import (
	"net"
	"os"
	"strings"
	"testing"
)

func TestPublicURL(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	v4 := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 7003}
	v6 := &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 7003}
	for _, c := range []struct {
		advertise string
		bound     net.Addr
		secure    bool
		want      string
	}{
		{"", v4, false, "ws://192.0.2.7:7003/v1/connect"},
		{"", v4, true, "wss://192.0.2.7:7003/v1/connect"},
		{"", v6, false, "ws://[2001:db8::7]:7003/v1/connect"},
		{"wss://{node}.rt.example.com:{port}/v1/connect", v4, true, "wss://node-1.rt.example.com:7003/v1/connect"},
		{"wss://{ip-dashed}.rt.example.com:{port}", v4, false, "wss://192-0-2-7.rt.example.com:7003/v1/connect"},
		{"wss://{ip-dashed}.rt.example.com:{port}/", v6, false, "wss://2001-db8--7.rt.example.com:7003/v1/connect"},
		{"ws://{ip}:{port}", v4, false, "ws://192.0.2.7:7003/v1/connect"},
		{"ws://{ip}:{port}", v6, false, "ws://[2001:db8::7]:7003/v1/connect"},
		{"wss://edge.example.com/n/{node}/v1/connect", v4, false, "wss://edge.example.com/n/node-1/v1/connect"},
		{"wss://{hostname}.example.com/v1/connect", v4, false, "wss://" + host + ".example.com/v1/connect"},
		// --advertise is used as it is, right or wrong.
		{"ws://203.0.113.1:1", v4, false, "ws://203.0.113.1:1/v1/connect"},
	} {
		p, err := publicURLOf(c.advertise, "node-1", c.bound, c.secure)
		if err != nil || p.url != c.want || p.first != 0 || p.source == "" {
			t.Errorf("%q at %v: %+v, %v, want %s", c.advertise, c.bound, p, err, c.want)
		}
	}
	for _, advertise := range []string{
		"http://example.com", "example.com:7000", "wss://", "wss://{name}.example.com", "wss://user:secret@example.com", "wss://example.com/#x",
		"ws://example.com:7100-7000", "ws://example.com:0-7000", "ws://example.com:7000-70000", "ws://example.com:1000-9000", "ws://exa mple.com:1-2",
		"ws://example.com:7000-7099", // the node listens on one of them
	} {
		if p, err := publicURLOf(advertise, "node-1", v4, false); err == nil || !strings.Contains(err.Error(), "--advertise") {
			t.Errorf("%q: %+v, %v", advertise, p, err)
		}
	}
	if p, err := publicURLOf("ws://example.com:7000", "node-1", v4, true); err == nil {
		t.Errorf("without TLS, to a node with a certificate: %+v", p)
	}
	if p, err := publicURLOf("", "node-1", &net.TCPAddr{IP: net.IPv6unspecified, Port: 7000}, false); err == nil {
		t.Errorf("an address was guessed: %+v", p)
	}
}

func TestPublicURLWithPortRange(t *testing.T) {
	p, err := publicURLOf("wss://{node}.example.com:7000-7099/x", "node-1", &net.TCPAddr{IP: net.IPv4zero, Port: 17000}, true)
	if err != nil || p.first != 7000 || p.last != 7099 {
		t.Fatalf("%+v, %v", p, err)
	}
	if got := p.at(7042); got != "wss://node-1.example.com:7042/x" {
		t.Errorf("with the port found it is %s", got)
	}
}
