package node

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// handshake sends a raw handshake and returns the response.
func (r *rig) handshake(t *testing.T, method, query string, header http.Header) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, r.http.URL+proto.ConnectPath+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func upgradeHeader(more ...string) http.Header {
	h := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
		"Sec-Websocket-Protocol": {proto.Subprotocol},
	}
	for i := 0; i+1 < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

func TestRefusedBeforeTheUpgrade(t *testing.T) {
	r := newRig(t, Echo{}, func(c *Config) { c.Origins = []string{"https://game.example.com"} })
	good := "Bearer " + tokenOf(r.login("ada"))
	twice := func(name, value string) http.Header {
		h := upgradeHeader("Authorization", good, "Origin", "https://game.example.com")
		h.Add(name, value)
		return h
	}
	for _, tt := range []struct {
		name   string
		method string
		query  string
		header http.Header
		status int
		code   string
	}{
		{"plain GET", "GET", "", http.Header{}, 426, proto.ProblemUpgradeRequired},
		{"upgrade removed by a proxy", "GET", "", http.Header{"Authorization": {good}, "Sec-Websocket-Version": {"13"}}, 426, proto.ProblemUpgradeRequired},
		{"POST", "POST", "", upgradeHeader("Authorization", good), 405, proto.ProblemMethodNotAllowed},
		{"no token", "GET", "", upgradeHeader(), 401, proto.ProblemInvalidToken},
		{"forged token", "GET", "", upgradeHeader("Authorization", "Bearer x.y.z"), 401, proto.ProblemInvalidToken},
		{"basic", "GET", "", upgradeHeader("Authorization", "Basic eDp5"), 401, proto.ProblemInvalidToken},
		{"token twice", "GET", "", upgradeHeader("Authorization", good, "Sec-WebSocket-Protocol", "usher.v1, usher.token.x"), 401, proto.ProblemInvalidToken},
		{"token in the URL", "GET", "?token=x", upgradeHeader("Authorization", good), 400, proto.ProblemInvalidRequest},
		{"token too long", "GET", "", upgradeHeader("Authorization", "Bearer "+strings.Repeat("x", 5000)), 401, proto.ProblemInvalidToken},
		{"no subprotocol", "GET", "", upgradeHeader("Authorization", good, "Sec-WebSocket-Protocol", "chat"), 400, proto.ProblemInvalidRequest},
		{"old version", "GET", "", upgradeHeader("Authorization", good, "Sec-WebSocket-Version", "8"), 400, proto.ProblemInvalidRequest},
		{"two versions", "GET", "", twice("Sec-Websocket-Version", "8"), 400, proto.ProblemInvalidRequest},
		{"key too short", "GET", "", upgradeHeader("Authorization", good, "Sec-WebSocket-Key", "abc"), 400, proto.ProblemInvalidRequest},
		{"two keys", "GET", "", twice("Sec-Websocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="), 400, proto.ProblemInvalidRequest},
		{"two origins", "GET", "", twice("Origin", "https://evil.example"), 403, proto.ProblemForbidden},
		{"another origin", "GET", "", upgradeHeader("Authorization", good, "Origin", "https://game.example.com.evil.example"), 403, proto.ProblemForbidden},
		{"origin without scheme", "GET", "", upgradeHeader("Authorization", good, "Origin", "game.example.com"), 403, proto.ProblemForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp := r.handshake(t, tt.method, tt.query, tt.header)
			var p proto.Problem
			if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status || p.Code != tt.code || p.Status != tt.status || p.Detail == "" {
				t.Errorf("got %d %+v, want %d %s", resp.StatusCode, p, tt.status, tt.code)
			}
			if ct := resp.Header.Get("Content-Type"); ct != proto.ProblemContentType {
				t.Errorf("content type %q", ct)
			}
		})
	}
	if _, live, _ := r.node.Load(); live != 0 {
		t.Errorf("%d sessions after refusals only", live)
	}
}

// rawHandshake sends a handshake with more header lines, each ended by "\r\n", and without
// its body if the lines announce one. It returns the status of the answer.
func (r *rig) rawHandshake(t *testing.T, host, more string) int {
	t.Helper()
	c, err := net.Dial("tcp", r.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: usher.v1\r\n%s\r\n", proto.ConnectPath, host, more)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// A handshake with a body is refused: a proxy that forwards the body later and this node
// would disagree on what is a frame.
func TestHandshakeWithBody(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	token := "Authorization: Bearer " + tokenOf(r.login("ada")) + "\r\n"
	for _, body := range []string{"Content-Length: 20", "Transfer-Encoding: chunked", "Content-Length: 5\r\nExpect: 100-continue"} {
		if status := r.rawHandshake(t, "x", token+body+"\r\n"); status != http.StatusBadRequest {
			t.Errorf("%q: %d, want 400", body, status)
		}
	}
	if _, live, _ := r.node.Load(); live != 0 {
		t.Errorf("%d sessions after refusals only", live)
	}
}

func TestHosts(t *testing.T) {
	r := newRig(t, Echo{}, func(c *Config) { c.Hosts = []string{"node-1.example.com", "alias.example.com:7000"} })
	for host, want := range map[string]int{
		"node-1.example.com": 401, "NODE-1.example.com:7000": 401, "node-1.example.com:443": 401, "alias.example.com:7000": 401,
		"alias.example.com": 403, "alias.example.com:7001": 403, "127.0.0.1": 403, "node-1.example.com.evil.example": 403, "": 403,
	} {
		if status := r.rawHandshake(t, host, ""); status != want {
			t.Errorf("%q: %d, want %d", host, status, want)
		}
	}
}

func TestHTTP10(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	c, err := net.Dial("tcp", strings.TrimPrefix(r.http.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /v1/connect HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	b, _ := io.ReadAll(c)
	if !strings.Contains(string(b), " 426 ") || !strings.Contains(string(b), "HTTP/1.0") {
		t.Errorf("got %q, want a readable 426", b)
	}
}

func TestTokenIsNeverEchoed(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	raw := tokenOf(r.login("ada"))
	resp := r.handshake(t, "GET", "", upgradeHeader("Sec-WebSocket-Protocol", "usher.token."+raw+", usher.v1"))
	if resp.StatusCode != 101 {
		t.Fatal(resp.Status)
	}
	if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != proto.Subprotocol {
		t.Errorf("selected %q, want %q", got, proto.Subprotocol)
	}
	for k, vs := range resp.Header {
		if strings.Contains(strings.Join(vs, ""), raw) {
			t.Errorf("header %s echoes the token", k)
		}
	}
	if strings.Contains(r.log.String(), raw) {
		t.Error("the log has the token")
	}
}

func TestClosedAfterTheUpgrade(t *testing.T) {
	full := newRig(t, Echo{}, func(c *Config) { c.MaxSessions = 1 })
	full.attach(full.login("first"), "")
	r := newRig(t, Echo{}, nil)
	ended := r.login("ended")
	if _, err := r.store.End(t.Context(), ended.Session, 0, proto.CloseKicked, "", time.Minute); err != nil {
		t.Fatal(err)
	}
	moved := r.login("moved")
	if _, err := r.store.Reassign(t.Context(), "r1", session.Record{ID: moved.Session, Epoch: 1}, "node-2", time.Minute); err != nil {
		t.Fatal(err)
	}
	unknown := r.login("unknown")
	unknown.Session = "00.aaaaaaaaaaaaaaaaaaaaaaaaaa"
	expired := r.login("expired")
	expired.Expires = time.Now().Unix() - 10
	other := r.login("other")
	other.Node = "node-2"
	draining := newRig(t, Echo{}, nil)
	draining.node.Drain(DrainPlan{Keep: true})
	for _, tt := range []struct {
		name   string
		rig    *rig
		claims proto.Claims
		query  string
		want   proto.CloseCode
	}{
		{"full", full, full.login("second"), "", proto.CloseFull},
		{"kicked", r, ended, "", proto.CloseKicked},
		{"moved", r, moved, "", proto.CloseMoved},
		{"another node's token", r, other, "", proto.CloseMoved},
		{"unknown", r, unknown, "", proto.CloseUnknownSession},
		{"expired", r, expired, "", proto.CloseTokenExpired},
		{"draining", draining, draining.login("late"), "", proto.CloseGoingAway},
		{"negative count", r, r.login("a"), "stream=x&received=-1", proto.CloseProtocolError},
		{"huge count", r, r.login("b"), "stream=x&received=18446744073709551616", proto.CloseProtocolError},
		{"count past 2^53", r, r.login("c"), "stream=x&received=9007199254740992", proto.CloseProtocolError},
		{"count that is not a number", r, r.login("d"), "stream=x&received=1e3", proto.CloseProtocolError},
		{"stream without count", r, r.login("e"), "stream=x", proto.CloseProtocolError},
		{"attempt that is not a number", r, r.login("f"), "attempt=x", proto.CloseProtocolError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.rig.dial(tt.claims, tt.query)
			if got := c.closed(); got != int(tt.want) {
				t.Errorf("closed with %d, want %d %s", got, tt.want, tt.want)
			}
		})
	}
}

func TestWelcome(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	w := c.welcome
	if w.Session != claims.Session || w.Node != "node-1" || w.Stream == "" || w.Resumed || w.Reason != "" || w.Received != 0 {
		t.Errorf("welcome %+v", w)
	}
	if w.PingIntervalMS != 15000 || w.ResumeWindowMS != 60000 || w.MaxMessageBytes != 65536 ||
		w.MaxUnackedBytes != 262144 || w.MaxUnackedMessages != 1024 || w.TokenExpiresAt.Unix() != claims.Expires {
		t.Errorf("welcome %+v", w)
	}
	if mine, all := r.node.Arrived("auth-1"); mine != 1 || all != 1 {
		t.Errorf("arrivals: %d of %d, want 1 of 1", mine, all)
	}
}
