package auth

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/auth/credential"
	"github.com/usher-broker/usher/proto"

	"github.com/usher-broker/usher/broker/httpapi"
)

func TestJWKS(t *testing.T) {
	d := newFixture(t, nil)
	a := d.do("GET", "/.well-known/jwks.json", "")
	if a.status != 200 || a.body != string(d.broker.keys.JWKS()) || !json.Valid([]byte(a.body)) {
		t.Errorf("%d %q", a.status, a.body)
	}
	if c := a.header.Get("Cache-Control"); c != "public, max-age=60" {
		t.Errorf("Cache-Control is %q", c)
	}
	if a := d.do("HEAD", "/.well-known/jwks.json", ""); a.status != 200 {
		t.Errorf("HEAD is %d", a.status)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	d := newFixture(t, nil)
	for _, path := range []string{"/", "/v1", "/v1/login/", "/v1/login/x", "/V1/login", "//v1/login", "/v1/assignments", "/v1/nodes", "/.well-known/", "/v1/%6cogin2", "/..%2fv1/login"} {
		for _, method := range []string{"GET", "POST", "FOO"} {
			d.do(method, path, "{}").problem(t, 404, proto.ProblemNotFound)
		}
	}
	for _, c := range []struct{ method, path, allow string }{
		{"GET", "/v1/login", "POST, OPTIONS"},
		{"HEAD", "/v1/login", "POST, OPTIONS"},
		{"PUT", "/v1/login", "POST, OPTIONS"},
		{"DELETE", "/v1/logout", "POST, OPTIONS"},
		{"FOO", "/v1/reconnect", "POST, OPTIONS"},
		{"POST", "/.well-known/jwks.json", "GET, HEAD, OPTIONS"},
	} {
		a := d.do(c.method, c.path, "")
		a.problem(t, 405, proto.ProblemMethodNotAllowed)
		if got := a.header.Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow is %q, want %q", c.method, c.path, got, c.allow)
		}
	}
	if a := d.do("OPTIONS", "/v1/login", ""); a.status != 204 || a.header.Get("Allow") != "POST, OPTIONS" {
		t.Errorf("OPTIONS: %d with Allow %q", a.status, a.header.Get("Allow"))
	}
}

func TestPanicsAreAnswered(t *testing.T) {
	d := newFixture(t, nil)
	d.broker.panics = true
	d.login(adaLogin).problem(t, 500, proto.ProblemInternal)
	d.do("POST", "/v1/logout", "", "Authorization", "Bearer "+d.token(nil)).problem(t, 500, proto.ProblemInternal)
	if log := d.log.String(); !strings.Contains(log, "broker panics") || !strings.Contains(log, "main_test.go") || strings.Contains(log, "horse") {
		t.Errorf("log is %s", log)
	}
	d.broker.panics = false
	d.login(adaLogin).assignment(t)
}

func TestNewRefuses(t *testing.T) {
	good := newFixture(t, nil).cfg
	good.Registry = nil
	for name, spoil := range map[string]func(*Config){
		"no broker":        func(c *Config) { c.Broker = nil },
		"no verifier":      func(c *Config) { c.Verifier = nil },
		"no keys":          func(c *Config) { c.JWKS = nil },
		"no providers":     func(c *Config) { c.Providers = map[string]credential.Provider{} },
		"origin with path": func(c *Config) { c.Origins = []string{"https://game.example.com/"} },
		"origin a host":    func(c *Config) { c.Origins = []string{"game.example.com"} },
		"origin empty":     func(c *Config) { c.Origins = []string{""} },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
}

// serve serves the API on a real connection, where deadlines have an effect.
func (d *fixture) serve() *httptest.Server {
	srv := httptest.NewServer(d.Handler())
	d.t.Cleanup(srv.Close)
	return srv
}

func TestSlowBodiesTimeOut(t *testing.T) {
	d := newFixture(t, func(c *Config) { c.BodyTimeout = 100 * time.Millisecond })
	for name, c := range map[string]struct {
		head   string
		status int
	}{
		"body that stops":          {"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"method\":", 408},
		"body that is not read":    {"Content-Type: text/plain\r\nContent-Length: 100\r\n\r\nx", 415},
		"body with token to check": {"Authorization: Bearer x\r\nContent-Length: 100\r\n\r\nx", 401},
	} {
		t.Run(name, func(t *testing.T) {
			path := "/v1/login"
			if c.status == 401 {
				path = "/v1/logout"
			}
			conn, err := net.Dial("tcp", d.serve().Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\n%s", path, c.head)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != proto.ProblemContentType {
				t.Errorf("%d %s", resp.StatusCode, resp.Header)
			}
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("the connection stays open: %v", err)
			}
		})
	}
}

// The deadline of the body must not end a request that takes longer.
func TestBodyDeadlineDoesNotCancelTheWork(t *testing.T) {
	slow := slowProvider{200 * time.Millisecond}
	d := newFixture(t, func(c *Config) {
		c.BodyTimeout = 50 * time.Millisecond
		c.Providers = map[string]credential.Provider{"slow": slow}
	})
	srv := d.serve()
	for range 3 { // over one connection
		resp, err := srv.Client().Post(srv.URL+"/v1/login", "application/json", strings.NewReader(`{"method":"slow"}`))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
	}
}

// It must not do so for a request without a body either.
func TestNoBodyDeadlineWithoutABody(t *testing.T) {
	d := newFixture(t, func(c *Config) { c.BodyTimeout = 50 * time.Millisecond })
	d.broker.takes = 200 * time.Millisecond
	srv := d.serve()
	for path, want := range map[string]int{"/v1/reconnect": 200, "/v1/logout": 204} {
		req, err := http.NewRequest("POST", srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+d.token(nil))
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}

func TestSlowProvidersTimeOut(t *testing.T) {
	d := newFixture(t, func(c *Config) {
		c.CredentialTimeout = 50 * time.Millisecond
		c.Providers = map[string]credential.Provider{"slow": slowProvider{time.Hour}}
	})
	d.login(`{"method":"slow"}`).problem(t, 503, proto.ProblemNoCapacity)
}

func TestClientsBehindAProxyAreDistinguished(t *testing.T) {
	d := newFixture(t, func(c *Config) { c.Throttle = NewThrottle(ThrottleConfig{ClientBurst: 1}) })
	d.cfg.TrustedProxies = append(d.cfg.TrustedProxies, httpapi.ClientNetwork(addr("192.0.2.1"))) // httptest's client
	bad := `{"method":"password","credentials":{"username":"eve","password":"x"}}`
	d.login(bad, "X-Forwarded-For", "1.1.1.1").problem(t, 401, proto.ProblemInvalidCredentials)
	d.login(adaLogin, "X-Forwarded-For", "1.1.1.1").problem(t, 429, proto.ProblemTooManyAttempts)
	d.login(adaLogin, "X-Forwarded-For", "2.2.2.2").assignment(t)
	d.login(adaLogin, "X-Forwarded-For", "2.2.2.2, 1.1.1.1").problem(t, 429, proto.ProblemTooManyAttempts)
}
