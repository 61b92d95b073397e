package auth

import (
	"strings"
	"testing"

	"github.com/usher-broker/usher/proto"
)

func TestAnyOriginMayCallByDefault(t *testing.T) {
	d := newFixture(t, nil)
	a := d.login(adaLogin, "Origin", "https://game.example.com")
	a.assignment(t)
	bad := d.login("{", "Origin", "null")
	for _, h := range []map[string][]string{a.header, bad.header} {
		if got := h["Access-Control-Allow-Origin"]; len(got) != 1 || got[0] != "*" {
			t.Errorf("Access-Control-Allow-Origin is %q", got)
		}
		if got := h["Access-Control-Allow-Credentials"]; got != nil {
			t.Errorf("credentials are allowed: %q", got)
		}
		if got := h["Access-Control-Expose-Headers"]; len(got) != 1 || !strings.EqualFold(got[0], "Retry-After, WWW-Authenticate") {
			t.Errorf("Access-Control-Expose-Headers is %q", got)
		}
	}
}

func TestPreflight(t *testing.T) {
	d := newFixture(t, nil)
	for _, path := range []string{"/v1/login", "/v1/reconnect", "/v1/logout", "/.well-known/jwks.json"} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			// Sorted and in lower case, as the Fetch standard requires of a browser.
			const headers = "authorization,content-type,usher-proof"
			a := d.do("OPTIONS", path, "", "Origin", "https://game.example.com",
				"Access-Control-Request-Method", method, "Access-Control-Request-Headers", headers)
			if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Access-Control-Max-Age") != "7200" ||
				a.header.Get("Access-Control-Allow-Methods") != method || a.header.Get("Access-Control-Allow-Headers") != headers {
				t.Errorf("%s %s: %d %v", method, path, a.status, a.header)
			}
		}
		for _, refused := range [][2]string{{"DELETE", "content-type"}, {"POST", "x-other"}} {
			a := d.do("OPTIONS", path, "", "Origin", "https://game.example.com",
				"Access-Control-Request-Method", refused[0], "Access-Control-Request-Headers", refused[1])
			if a.header.Get("Access-Control-Allow-Headers") != "" || a.header.Get("Access-Control-Allow-Methods") != "" {
				t.Errorf("%s with %s to %s: %d %v", refused[0], refused[1], path, a.status, a.header)
			}
		}
	}
}

// A * inside an origin is not a pattern.
func TestOriginsAreNotPatterns(t *testing.T) {
	d := newFixture(t, func(c *Config) { c.Origins = []string{"https://*.example.com"} })
	d.login(adaLogin, "Origin", "https://game.example.com").problem(t, 403, proto.ProblemForbidden)
}

func TestListedOriginsOnly(t *testing.T) {
	d := newFixture(t, func(c *Config) { c.Origins = []string{"https://game.example.com", "http://localhost:3000"} })
	for _, origin := range []string{"https://game.example.com", "http://localhost:3000"} {
		a := d.login(adaLogin, "Origin", origin)
		a.assignment(t)
		if a.header.Get("Access-Control-Allow-Origin") != origin || a.header.Get("Vary") != "Origin" {
			t.Errorf("headers are %v", a.header)
		}
	}
	for _, origin := range []string{"https://evil.example", "http://game.example.com", "https://game.example.com.evil.example", "null", "https://game.example.com:444"} {
		a := d.login(adaLogin, "Origin", origin)
		a.problem(t, 403, proto.ProblemForbidden)
		if a.header.Get("Access-Control-Allow-Origin") != "" || a.header.Get("Vary") != "Origin" {
			t.Errorf("headers are %v", a.header)
		}
		a = d.do("OPTIONS", "/v1/login", "", "Origin", origin, "Access-Control-Request-Method", "POST")
		a.problem(t, 403, proto.ProblemForbidden)
	}
	if n := len(d.broker.assigned); n != 2 {
		t.Errorf("%d logins reached the broker", n)
	}
	d.login(adaLogin).assignment(t) // not a web page
	if a := d.do("GET", "/.well-known/jwks.json", "", "Origin", "https://evil.example"); a.status != 200 {
		t.Errorf("public keys are %d", a.status)
	}
}
