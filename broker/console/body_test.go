package console_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/console"
)

func TestBadBodies(t *testing.T) {
	h := newFixture(t)
	for name, tc := range map[string]struct {
		body   string
		status int
		detail string
	}{
		"empty":        {" ", 400, "empty"},
		"cut short":    {`{"user":"a`, 400, "cut short"},
		"not JSON":     {`user=ada`, 400, "from byte 1 on"},
		"an array":     {`[]`, 400, "not a JSON object"},
		"wrong type":   {`{"user":7}`, 400, `user: expected a string, not a JSON number`},
		"deeper":       {`{"user":"a","placement":{"pool":[]}}`, 400, `placement.pool: expected a string, not a JSON array`},
		"misspelt":     {`{"user":"a","pool":"vip"}`, 400, `unknown field "pool"`},
		"long name":    {`{"` + strings.Repeat("x", 9999) + `":1}`, 400, "very long name"},
		"two values":   {`{"user":"a"}{}`, 400, "something after"},
		"not UTF-8":    {"{\"user\":\"\xff\"}", 400, "UTF-8"},
		"17 KiB":       {`{"user":"` + strings.Repeat("x", 17<<10) + `"}`, 413, "16384 bytes"},
		"16 KiB and 1": {`{"user":"a"}` + strings.Repeat(" ", 16<<10-11), 413, "16384 bytes"},
	} {
		for _, known := range []bool{true, false} { // whether the length is known beforehand
			r := h.request(console.Backend, "POST", "/v1/assignments", tc.body)
			if !known {
				r.ContentLength = -1
			}
			w := h.do(r)
			if p := problemOf(t, w); w.Code != tc.status || !strings.Contains(p.Detail, tc.detail) || len(p.Detail) > 200 {
				t.Errorf("%s: %d %s", name, w.Code, p.Detail)
			}
		}
	}
	if h.broker.assigned.User != "" {
		t.Errorf("assigned %+v", h.broker.assigned)
	}
	for header, value := range map[string]string{"Content-Type": "text/plain", "Content-Encoding": "gzip"} {
		r := h.request(console.Backend, "POST", "/v1/assignments", `{"user":"a"}`)
		r.Header.Set(header, value)
		if w := h.do(r); w.Code != http.StatusUnsupportedMediaType {
			t.Errorf("%s %s: %d", header, value, w.Code)
		}
	}
	full := h.request(console.Backend, "POST", "/v1/assignments", `{"user":"a"}`+strings.Repeat(" ", 16<<10-12))
	if w := h.do(full); w.Code != 200 {
		t.Errorf("16 KiB: %d %s", w.Code, w.Body)
	}
}

// A body that does not arrive ends the request, on a real connection.
func TestSlowBody(t *testing.T) {
	h := newFixture(t)
	s, err := console.New(console.Config{Broker: h.broker, Listen: loopback, BodyTimeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: time.Minute}
	done := make(chan error)
	go func() { done <- srv.Serve(ln) }()
	defer func() { srv.Close(); <-done }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST /v1/assignments HTTP/1.1\r\nHost: %s\r\nContent-Length: 100\r\n\r\n{", ln.Addr())
	b := make([]byte, 12)
	if _, err := c.Read(b); err != nil || string(b) != "HTTP/1.1 408" {
		t.Errorf("got %q, %v", b, err)
	}
}
