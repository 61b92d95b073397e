package node

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/usher-broker/usher/node/internal/wire/wiretest"
	"github.com/usher-broker/usher/proto"
)

// The frames of RFC 6455, and what a malicious client makes of them. Text messages
// are controls of the protocol, so every text is also checked as one.
func TestWire(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	secure := httptest.NewUnstartedServer(r.node.Handler())
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for name, dial := range map[string]func() (net.Conn, error){
		"plain": func() (net.Conn, error) { return net.Dial("tcp", r.http.Listener.Addr().String()) },
		"tls": func() (net.Conn, error) {
			return tls.Dial("tcp", secure.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range wireCases() {
				t.Run(c.Name, func(t *testing.T) {
					conn, err := dial()
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					client := rawAttachOn(t, conn, r.login(fmt.Sprint(name, "-", c.Name)))
					code, back := c.Result(client, len(c.Bytes), true, isAck)
					if code != c.Code || fmt.Sprintf("%.40q", back) != fmt.Sprintf("%.40q", c.Back) {
						t.Errorf("ended with %d, got back %.40q; want %d, %.40q", code, back, c.Code, c.Back)
					}
				})
			}
		})
	}
}

// A violation of RFC 6455 is counted and logged.
func TestViolationIsCounted(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	client := r.rawAttach(t, r.login("ada"))
	defer client.Close()
	if _, err := client.Write(wiretest.Masked(nil, 0xf1, []byte("reserved bits"))); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if n := testutil.ToFloat64(r.node.metrics.closes.WithLabelValues("websocket_error")); n != 1 {
			return fmt.Errorf("%v violations were counted, want 1", n)
		}
		return nil
	})
	if log := r.log.String(); !strings.Contains(log, "client violated RFC 6455") || !strings.Contains(log, "reserved bits") {
		t.Errorf("the log does not name the violation: %s", log)
	}
}

// A client that sends many pings at once and reads gets all pongs.
func TestBurstOfPings(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	client := r.rawAttach(t, r.login("ada"))
	defer client.Close()
	const pings = 200
	var burst []byte
	for i := range uint64(pings) {
		burst = wiretest.Masked(burst, 0x81, proto.AppendControl(nil, proto.Control{Type: proto.TypePing, ID: i}))
	}
	if _, err := client.Write(burst); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(pings) {
		first, payload, err := wiretest.ReadFrame(client)
		ctl, _ := proto.ParseControl(payload)
		if err != nil || first != 0x81 || ctl.Type != proto.TypePong || ctl.ID != i {
			t.Fatalf("instead of pong %d: %x %q %v", i, first, payload, err)
		}
	}
}

// isAck reports whether a frame is an acknowledgement, which may come at any time.
func isAck(first byte, payload []byte) bool {
	return first == 0x81 && bytes.Contains(payload, []byte(`"ack"`))
}

func wireCases() []wiretest.Case {
	const text, binary, staysOpen = 0x81, 0x82, wiretest.StaysOpen
	f := func(first byte, payload string) string { return string(wiretest.Masked(nil, first, []byte(payload))) }
	return append(wiretest.FrameCases(), []wiretest.Case{
		{Name: "no kind", Bytes: f(binary, ""), Code: 4000},
		{Name: "kind 3", Bytes: f(binary, "\x04x"), Code: 4000},
		{Name: "kind 255", Bytes: f(binary, "\xffx"), Code: 4000},

		// UTF-8.
		{Name: "text kind", Bytes: f(binary, "\x01κόσμε"), Code: staysOpen, Back: []string{"\x82\x01κόσμε"}},
		{Name: "text kind, cut in a letter", Bytes: f(0x02, "\x01\xce") + f(0x80, "\xba"), Code: staysOpen, Back: []string{"\x82\x01κ"}},
		{Name: "text kind, not UTF-8", Bytes: f(binary, "\x01\xff"), Code: 4000},
		{Name: "text kind, overlong", Bytes: f(binary, "\x01\xc0\xaf"), Code: 4000},
		{Name: "text kind, a surrogate", Bytes: f(binary, "\x01\xed\xa0\x80"), Code: 4000},
		{Name: "text kind, beyond Unicode", Bytes: f(binary, "\x01\xf4\x90\x80\x80"), Code: 4000},
		{Name: "text kind, cut short", Bytes: f(binary, "\x01\xe2\x82"), Code: 4000},
		{Name: "control that is not UTF-8", Bytes: f(text, "{\"type\":\"ack\",\"received\":0,\"x\":\"\xff\"}"), Code: 4000},
		{Name: "control with a name that is not UTF-8", Bytes: f(text, "{\"type\":\"ack\",\"received\":0,\"\xff\":1}"), Code: 4000},

		// Controls of the protocol.
		{Name: "control", Bytes: f(text, `{"type":"ping","id":7}`), Code: staysOpen, Back: []string{"\x81" + string(proto.AppendControl(nil, proto.Control{Type: proto.TypePong, ID: 7}))}},
		{Name: "unknown control", Bytes: f(text, `{"type":"nope"}`), Code: 4000},
		{Name: "empty control", Bytes: f(text, ""), Code: 4000},
	}...)
}
