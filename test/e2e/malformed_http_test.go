package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

// httpCase is an HTTP request and the problem that the answer must contain.
type httpCase struct {
	name         string
	method, path string
	header       []string // name, value, name, value …
	body         string
	status       int
	code         string
}

func (r httpCase) check(t *testing.T, base string) {
	t.Helper()
	req, err := http.NewRequest(r.method, base+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(r.header); i += 2 {
		req.Header.Add(r.header[i], r.header[i+1])
	}
	a, err := do(req)
	switch {
	case err != nil:
		t.Errorf("%s %s, %s: %v", r.method, r.path, r.name, err)
	case a.status != r.status, a.problem.Code != r.code, a.problem.Status != r.status,
		a.problem.Type != proto.ProblemTypePrefix+r.code, a.problem.Detail == "":
		t.Errorf("%s %s, %s: %v (%s), want %d %s", r.method, r.path, r.name, a, a.header.Get("Content-Type"), r.status, r.code)
	}
}

// authRequests returns requests that auth must refuse.
func authRequests(tokens map[string]string) []httpCase {
	guest := func(credentials, more string) string {
		return `{"method":"guest","credentials":` + credentials + more + `}`
	}
	const bad = proto.ProblemInvalidRequest
	bodies := map[string]string{
		"nothing":               "",
		"no JSON":               "hello",
		"half an object":        `{"method":"guest"`,
		"a list":                `[]`,
		"null":                  `null`,
		"two objects":           guest(`{"name":"a"}`, "") + "{}",
		"no method":             `{"credentials":{"name":"a"}}`,
		"method as a number":    `{"method":1}`,
		"unknown method":        `{"method":"magic"}`,
		"credentials as text":   guest(`"ada"`, ""),
		"credentials as a list": guest(`["ada"]`, ""),
		"name as a number":      guest(`{"name":1}`, ""),
		"long name":             guest(`{"name":"`+strings.Repeat("x", 200)+`"}`, ""),
		"control character":     guest(`{"name":"a\u0000b"}`, ""),
		"not UTF-8":             guest("{\"name\":\"\xff\"}", ""),
		"method twice":          `{"method":"guest","method":"guest","credentials":{"name":"a"}}`,
		"placement as text":     guest(`{"name":"a"}`, `,"placement":"eu"`),
		"region as an object":   guest(`{"name":"a"}`, `,"placement":{"region":{}}`),
		"pool that is too long": guest(`{"name":"a"}`, `,"placement":{"pool":"`+strings.Repeat("x", 200)+`"}`),
		"deep lists":            guest(strings.Repeat("[", 8000)+strings.Repeat("]", 8000)[:7900], ""),
		"deep objects":          guest(strings.Repeat(`{"a":`, 2000)+"1"+strings.Repeat("}", 2000), ""),
		"deep unknown member":   guest(`{"name":"a"}`, `,"x":`+strings.Repeat("[", 7000)+strings.Repeat("]", 7000)),
	}
	var list []httpCase
	for name, body := range bodies {
		list = append(list, httpCase{name, "POST", "/v1/login", nil, body, 400, bad})
	}
	for _, path := range []string{"/v1/login", "/v1/reconnect", "/v1/logout"} {
		list = append(list, httpCase{"wrong method", "GET", path, nil, "", 405, proto.ProblemMethodNotAllowed},
			httpCase{"wrong method", "DELETE", path, nil, "", 405, proto.ProblemMethodNotAllowed})
	}
	for _, path := range []string{"/v1/reconnect", "/v1/logout"} {
		refuse := func(name string, header ...string) {
			list = append(list, httpCase{name, "POST", path, header, "{}", 401, proto.ProblemInvalidToken})
		}
		refuse("no token")
		refuse("no scheme", "Authorization", "nonsense")
		refuse("other scheme", "Authorization", "Basic YTpi")
		for name, token := range tokens {
			refuse(name, "Authorization", "Bearer "+token)
		}
	}
	huge := guest(`{"name":"`+strings.Repeat("x", 17<<10)+`"}`, "")
	return append(list,
		httpCase{"huge", "POST", "/v1/login", nil, huge, 413, proto.ProblemBodyTooLarge},
		httpCase{"gigantic", "POST", "/v1/login", []string{"Expect", "100-continue"}, strings.Repeat(" ", 200<<10) + huge, 413, proto.ProblemBodyTooLarge},
		httpCase{"other type", "POST", "/v1/login", []string{"Content-Type", "text/xml"}, "<a/>", 415, bad},
		httpCase{"compressed", "POST", "/v1/login", []string{"Content-Encoding", "gzip"}, "{}", 415, bad},
		httpCase{"no such path", "POST", "/v1/nope", nil, "{}", 404, proto.ProblemNotFound},
	)
}

// handshakes returns requests that the connect path of a node must refuse.
func handshakes(good proto.Assignment, tokens map[string]string) []httpCase {
	const bad, path = proto.ProblemInvalidRequest, proto.ConnectPath
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket"}
	with := func(base []string, more ...string) []string { return append(append([]string(nil), base...), more...) }
	keyed := with(upgrade, "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	ours := with(keyed, "Sec-WebSocket-Protocol", proto.Subprotocol)
	bearer := []string{"Authorization", "Bearer " + good.Token}
	list := []httpCase{
		{"plain GET", "GET", path, bearer, "", 426, proto.ProblemUpgradeRequired},
		{"no Upgrade", "GET", path, with(bearer, "Connection", "Upgrade"), "", 426, proto.ProblemUpgradeRequired},
		{"POST", "POST", path, with(ours, bearer...), "", 405, proto.ProblemMethodNotAllowed},
		{"no key", "GET", path, with(upgrade, bearer...), "", 400, bad},
		{"old version", "GET", path, with(upgrade, "Sec-WebSocket-Version", "8", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), "", 400, bad},
		{"no subprotocol", "GET", path, with(keyed, bearer...), "", 400, bad},
		{"token in the URL", "GET", path + "?token=" + good.Token, ours, "", 400, bad},
		{"token in the URL", "GET", path + "?access_token=x", with(ours, bearer...), "", 400, bad},
		{"no token", "GET", path, ours, "", 401, proto.ProblemInvalidToken},
		{"two tokens", "GET", path, with(ours, with(bearer, "Sec-WebSocket-Protocol", proto.TokenSubprotocolPrefix+good.Token)...), "", 401, proto.ProblemInvalidToken},
		{"other scheme", "GET", path, with(ours, "Authorization", "Basic YTpi"), "", 401, proto.ProblemInvalidToken},
		{"no such path", "GET", "/v1/nope", nil, "", 404, proto.ProblemNotFound},
	}
	for name, token := range tokens {
		list = append(list, httpCase{name, "GET", path, with(ours, "Authorization", "Bearer "+token), "", 401, proto.ProblemInvalidToken})
	}
	return list
}

// oldProtocol sends a handshake in HTTP/1.0, as some proxies do. The node must
// answer 426 and name the cause.
func oldProtocol(t *testing.T, addr string, good proto.Assignment) {
	t.Helper()
	_, _, resp := rawRequest(t, addr, "GET "+proto.ConnectPath+" HTTP/1.0\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: "+proto.Subprotocol+"\r\n"+
		"Authorization: Bearer "+good.Token+"\r\n\r\n")
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 426 || !strings.Contains(string(body), "HTTP/1.0") || !strings.Contains(string(body), proto.ProblemUpgradeRequired) {
		t.Errorf("HTTP/1.0: %d %s", resp.StatusCode, body)
	}
}

// rawFrames sends invalid WebSocket frames, and frames that a client must not send.
// The node must close the connection within 10 s for each of them.
func rawFrames(t *testing.T, addr string, good proto.Assignment) {
	t.Helper()
	for name, frame := range map[string]string{
		"unmasked":                  "\x82\x03\x00hi",
		"reserved bits":             "\xf2\x83\x00\x00\x00\x00\x00hi",
		"reserved opcode":           "\x83\x83\x00\x00\x00\x00\x00hi",
		"continuation of nothing":   "\x80\x83\x00\x00\x00\x00\x00hi",
		"longest there is":          "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00" + strings.Repeat("\x00", 70<<10),
		"negative length":           "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00x",
		"fragmented ping":           "\x09\x80\x00\x00\x00\x00",
		"long ping":                 "\x89\xfe\x01\x00\x00\x00\x00\x00" + strings.Repeat("\x00", 256),
		"endless fragments":         "\x02\x80\x00\x00\x00\x00" + strings.Repeat("\x00\xfe\x04\x00\x00\x00\x00\x00"+strings.Repeat("\x00", 1024), 80),
		"close with half a code":    "\x88\x81\x00\x00\x00\x00\x03",
		"something else altogether": "GET / HTTP/1.1\r\n\r\n",
	} {
		conn, r, resp := rawRequest(t, addr, "GET "+proto.ConnectPath+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: "+proto.Subprotocol+"\r\n"+
			"Authorization: Bearer "+good.Token+"\r\n\r\n")
		if resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: %s", name, resp.Status)
		}
		_, _ = io.WriteString(conn, frame)
		if err := readToClose(r); err != nil {
			t.Errorf("%s: the connection is still open: %v", name, err)
		}
		_ = conn.Close()
	}
}

// readToClose reads frames until a close frame or the end of the connection. It
// returns an error only if neither comes before the deadline.
func readToClose(r *bufio.Reader) error {
	for {
		var head [2]byte
		_, err := io.ReadFull(r, head[:])
		size := int64(head[1])
		if err == nil && size == 126 { // no frame here needs the 64-bit length
			var long [2]byte
			_, err = io.ReadFull(r, long[:])
			size = int64(binary.BigEndian.Uint16(long[:]))
		}
		if err == nil {
			_, err = io.CopyN(io.Discard, r, size)
		}
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			return err
		case err != nil, head[0]&0xf == 8:
			return nil
		}
	}
}

// rawRequest sends the bytes on a new connection and reads the head of the answer.
// The connection has a deadline of 10 s and is closed when the test ends.
func rawRequest(t *testing.T, addr, request string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("answer to %.40q: %v", request, err)
	}
	return conn, r, resp
}
