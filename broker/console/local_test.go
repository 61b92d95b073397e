package console_test

import (
	"net"
	"net/http"
	"testing"

	"github.com/usher-broker/usher/broker/console"
)

func TestLocalModeListensOnLoopbackOnly(t *testing.T) {
	b := newFakeBroker()
	for addr, ok := range map[net.Addr]bool{
		&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}:   true,
		&net.TCPAddr{IP: net.IPv6loopback, Port: 1}:         true,
		&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}:   false,
		&net.TCPAddr{IP: net.IPv6unspecified, Port: 1}:      false,
		&net.TCPAddr{IP: net.IPv4zero, Port: 1}:             false,
		&net.UnixAddr{Name: "/run/usher.sock", Net: "unix"}: false,
	} {
		if _, err := console.New(console.Config{Broker: b, Listen: addr}); (err == nil) != ok {
			t.Errorf("%v: %v", addr, err)
		}
	}
	if _, err := console.New(console.Config{Broker: b}); err == nil {
		t.Error("without an address: no error")
	}
	if _, err := console.New(console.Config{Listen: loopback}); err == nil {
		t.Error("without a broker: no error")
	}
}

func TestLocalMode(t *testing.T) {
	h := newFixture(t)
	h.openLocal()
	sid := h.broker.sessions[0].ID
	for name, tc := range map[string]struct {
		change func(*http.Request)
		ok     bool
	}{
		"a program":          {func(*http.Request) {}, true},
		"by name":            {func(r *http.Request) { r.Host = "localhost:8081" }, true},
		"by name, no port":   {func(r *http.Request) { r.Host = "LOCALHOST" }, true},
		"over IPv6":          {func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:4", "[::1]:8081" }, true},
		"over IPv6, no port": {func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:4", "[::1]" }, true},
		"mapped IPv4":        {func(r *http.Request) { r.RemoteAddr = "[::ffff:127.0.0.1]:4" }, true},
		"own page": {func(r *http.Request) {
			r.Header.Set("Origin", "http://"+r.Host)
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		}, true},
		"typed URL":           {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "none") }, true},
		"another machine":     {func(r *http.Request) { r.RemoteAddr = "192.0.2.1:4" }, false},
		"no address":          {func(r *http.Request) { r.RemoteAddr = "@" }, false},
		"through a proxy":     {func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.1") }, false},
		"through a proxy (2)": {func(r *http.Request) { r.Header.Set("Forwarded", "for=192.0.2.1") }, false},
		"a rebound host name": {func(r *http.Request) { r.Host = "evil.example:8081" }, false},
		"a similar host name": {func(r *http.Request) { r.Host = "localhost.evil.example" }, false},
		"an outside address":  {func(r *http.Request) { r.Host = "192.0.2.7:8081" }, false},
		"no host name":        {func(r *http.Request) { r.Host = "" }, false},
		"a foreign page":      {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, false},
		"a sandboxed page":    {func(r *http.Request) { r.Header.Set("Origin", "null") }, false},
		"another port's page": {func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:3000") }, false},
		"cross-site fetch":    {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, false},
		"same-site fetch":     {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, false},
	} {
		for _, o := range [][3]string{
			{"GET", "/v1/nodes", ""},
			{"GET", "/v1/sessions/" + sid, ""},
			{"POST", "/v1/assignments", `{"user":"ada"}`},
			{"DELETE", "/v1/sessions/" + sid, ""},
		} {
			r := h.request("", o[0], o[1], o[2])
			tc.change(r)
			if w := h.do(r); (w.Code < 300) != tc.ok || !tc.ok && w.Code != http.StatusForbidden {
				t.Errorf("%s, %s %s: %d", name, o[0], o[1], w.Code)
			}
		}
	}
	if lines := h.audits(); len(lines) == 0 || lines[0]["by"] != "local" {
		t.Errorf("audit log: %v", lines)
	}
}

// With API keys, requests may come from other machines.
func TestKeysServeOtherMachines(t *testing.T) {
	h := newFixture(t)
	r := h.request(console.Viewer, "GET", "/v1/nodes", "")
	r.RemoteAddr, r.Host = "192.0.2.1:4", "broker.internal:8081"
	if w := h.do(r); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
