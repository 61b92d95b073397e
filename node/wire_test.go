package node

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/usher-broker/usher/proto"
)

// wireCase is what a client writes below the protocol, and the result: a close code,
// 0 for a connection that ends without one (the frame itself is broken), or a session that continues, with the frames that came back.
type wireCase struct {
	name  string
	bytes string
	code  int
	back  []string // first byte and payload of each frame, without acknowledgements
}

// staysOpen is the code of a connection that stays open.
const staysOpen = -1

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
				t.Run(c.name, func(t *testing.T) {
					conn, err := dial()
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					code, back := c.send(rawAttachOn(t, conn, r.login(fmt.Sprint(name, "-", c.name))))
					if code != c.code || fmt.Sprintf("%.40q", back) != fmt.Sprintf("%.40q", c.back) {
						t.Errorf("ended with %d, got back %.40q; want %d, %.40q", code, back, c.code, c.back)
					}
				})
			}
		})
	}
}

// endMarker is sent after each case. If the connection stays open, its pong comes
// back.
const endMarker = "end of case"

// send sends the case and returns the result.
func (c wireCase) send(cl *rawClient) (code int, back []string) {
	cl.t.Helper()
	_, _ = io.WriteString(cl, c.bytes) // the node may close it before all is written
	_, _ = cl.Write(masked(nil, 0x89, []byte(endMarker)))
	code = staysOpen
	done := false
	for code == staysOpen && !(done && len(back) >= len(c.back)) { // an echo may come after the pong
		first, payload, err := readFrame(cl)
		switch {
		case err != nil:
			code = 0
		case first == 0x88 && len(payload) >= 2:
			code = int(binary.BigEndian.Uint16(payload))
		case first == 0x88:
			code = 1005
		case first == 0x8a && string(payload) == endMarker:
			done = true
		case first == 0x81 && bytes.Contains(payload, []byte(`"ack"`)):
		default:
			back = append(back, string(append([]byte{first}, payload...)))
		}
	}
	if code != staysOpen {
		back = nil // an answer that was in transit may have come or not
	}
	return code, back
}

func readFrame(r io.Reader) (first byte, payload []byte, err error) {
	var h [10]byte
	if _, err := io.ReadFull(r, h[:2]); err != nil {
		return 0, nil, err
	}
	n := uint64(h[1])
	switch n {
	case 126:
		_, err = io.ReadFull(r, h[2:4])
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		_, err = io.ReadFull(r, h[2:10])
		n = binary.BigEndian.Uint64(h[2:])
	}
	if err == nil && n > 1<<20 {
		err = errors.New("a frame of the node is larger than any of its messages")
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	return h[0], payload, err
}

func wireCases() []wireCase {
	const (
		text, binary, more = 0x81, 0x82, 0x00
		ping, pong, closes = 0x89, 0x8a, 0x88
	)
	f := func(first byte, payload string) string { return string(masked(nil, first, []byte(payload))) }
	head := func(first, length byte, rest string) string { return string([]byte{first, length}) + rest }
	zero := strings.Repeat("\x00", 4)
	hello := "\x00hello"
	return []wireCase{
		// Messages.
		{"message", f(binary, hello), staysOpen, []string{"\x82" + hello}},
		{"empty payload", f(binary, "\x00"), staysOpen, []string{"\x82\x00"}},
		{"largest", f(binary, "\x00"+strings.Repeat("x", 65000)), staysOpen, []string{"\x82\x00" + strings.Repeat("x", 65000)}},
		{"length in 2 bytes where 1 does", head(binary, 0xfe, "\x00\x06"+zero+hello), staysOpen, []string{"\x82" + hello}},
		{"length in 8 bytes where 1 does", head(binary, 0xff, "\x00\x00\x00\x00\x00\x00\x00\x06"+zero+hello), staysOpen, []string{"\x82" + hello}},
		{"too large by a byte", head(binary, 0xff, "\x00\x00\x00\x00\x00\x01\x00\x02"+zero+"\x00"+strings.Repeat("x", 65537)), 4004, nil},
		{"length 2^31", head(binary, 0xff, "\x00\x00\x00\x00\x80\x00\x00\x00"+zero+strings.Repeat("\x00", 70<<10)), 4004, nil},
		{"length 2^63-1", head(binary, 0xff, "\x7f\xff\xff\xff\xff\xff\xff\xff"+zero+strings.Repeat("\x00", 70<<10)), 4004, nil},
		{"length 2^63", head(binary, 0xff, "\x80\x00\x00\x00\x00\x00\x00\x00"+zero), 0, nil},
		{"length 2^64-1", head(binary, 0xff, "\xff\xff\xff\xff\xff\xff\xff\xff"+zero), 0, nil},
		{"unmasked", head(binary, 0x06, hello), 0, nil},
		{"unmasked ping", head(ping, 0x00, ""), 0, nil},
		{"no kind", f(binary, ""), 4000, nil},
		{"kind 3", f(binary, "\x04x"), 4000, nil},
		{"kind 255", f(binary, "\xffx"), 4000, nil},

		// Reserved.
		{"reserved bit 1", f(binary|0x40, hello), 1002, nil},
		{"reserved bit 2", f(binary|0x20, hello), 1002, nil},
		{"reserved bit 3", f(binary|0x10, hello), 1002, nil},
		{"all reserved bits", f(binary|0x70, hello), 1002, nil},
		{"reserved bit on a ping", f(ping|0x40, ""), 1002, nil},
		{"opcode 3", f(0x83, hello), 1002, nil},
		{"opcode 4", f(0x84, hello), 1002, nil},
		{"opcode 5", f(0x85, hello), 1002, nil},
		{"opcode 6", f(0x86, hello), 1002, nil},
		{"opcode 7", f(0x87, hello), 1002, nil},
		{"opcode 11", f(0x8b, hello), 1002, nil},
		{"opcode 12", f(0x8c, hello), 1002, nil},
		{"opcode 13", f(0x8d, hello), 1002, nil},
		{"opcode 14", f(0x8e, hello), 1002, nil},
		{"opcode 15", f(0x8f, hello), 1002, nil},

		// Fragments.
		{"two fragments", f(0x02, "\x00hel") + f(0x80, "lo"), staysOpen, []string{"\x82" + hello}},
		{"an empty first fragment", f(0x02, "") + f(0x80, hello), staysOpen, []string{"\x82" + hello}},
		{"an empty last fragment", f(0x02, hello) + f(0x80, ""), staysOpen, []string{"\x82" + hello}},
		{"a byte each", f(0x02, "\x00") + f(more, "h") + f(more, "e") + f(more, "l") + f(more, "l") + f(0x80, "o"), staysOpen, []string{"\x82" + hello}},
		{"a ping between", f(0x02, "\x00hel") + f(ping, "now") + f(0x80, "lo"), staysOpen, []string{"\x8anow", "\x82" + hello}},
		{"a pong between", f(0x02, "\x00hel") + f(pong, "now") + f(0x80, "lo"), staysOpen, []string{"\x82" + hello}},
		{"a close between", f(0x02, "\x00hel") + f(closes, "\x03\xe8"), 1000, nil},
		{"continuation of nothing", f(0x80, hello), 1002, nil},
		{"continuation of nothing, and more", f(more, hello), 1002, nil},
		{"continuation of a complete message", f(0x02, "\x00hel") + f(0x80, "lo") + f(0x80, "!"), 1002, nil},
		{"a message within a message", f(0x02, "\x00hel") + f(binary, hello), 1002, nil},
		{"a text within a message", f(0x02, "\x00hel") + f(text, `{"type":"ack","received":0}`), 1002, nil},
		{"too large in fragments", f(0x02, "\x00") + strings.Repeat(f(more, strings.Repeat("x", 1024)), 65), 4004, nil},
		{"1,000 empty fragments", f(0x02, "\x00") + strings.Repeat(f(more, ""), 1000) + f(0x80, "x"), staysOpen, []string{"\x82\x00x"}},
		{"empty fragments without end", f(0x02, "\x00") + strings.Repeat(f(more, ""), 3000), 0, nil},

		// WebSocket control frames.
		{"ping", f(ping, ""), staysOpen, []string{"\x8a"}},
		{"ping of 125 bytes", f(ping, strings.Repeat("p", 125)), staysOpen, []string{"\x8a" + strings.Repeat("p", 125)}},
		{"ping of 126 bytes", f(ping, strings.Repeat("p", 126)), 1002, nil},
		{"ping with a length in 2 bytes", head(ping, 0xfe, "\x00\x01"+zero+"x"), staysOpen, []string{"\x8ax"}},
		{"ping of 2^63 bytes", head(ping, 0xff, "\x80\x00\x00\x00\x00\x00\x00\x00"+zero), 0, nil},
		{"fragmented ping", f(0x09, ""), 1002, nil},
		{"fragmented pong", f(0x0a, ""), 1002, nil},
		{"fragmented close", f(0x08, "\x03\xe8"), 1002, nil},
		{"unrequested pong", f(pong, "hi"), staysOpen, nil},
		{"three pings", f(ping, "1") + f(ping, "2") + f(ping, "3"), staysOpen, []string{"\x8a1", "\x8a2", "\x8a3"}},

		// Closing.
		{"close", f(closes, ""), 1005, nil},
		{"close 1000", f(closes, "\x03\xe8"), 1000, nil},
		{"close 1000, with a reason", f(closes, "\x03\xe8bye"), 1000, nil},
		{"close 1001", f(closes, "\x03\xe9"), 1001, nil},
		{"close 3000", f(closes, "\x0b\xb8"), 3000, nil},
		{"close 4999", f(closes, "\x13\x87"), 4999, nil},
		{"close 999", f(closes, "\x03\xe7"), 1002, nil},
		{"close 0", f(closes, "\x00\x00"), 1002, nil},
		{"close 1004", f(closes, "\x03\xec"), 1002, nil},
		{"close 1005", f(closes, "\x03\xed"), 1002, nil},
		{"close 1006", f(closes, "\x03\xee"), 1002, nil},
		{"close 1015", f(closes, "\x03\xf7"), 1002, nil},
		{"close 5000", f(closes, "\x13\x88"), 1002, nil},
		{"close 65535", f(closes, "\xff\xff"), 1002, nil},
		{"close of one byte", f(closes, "\x03"), 1002, nil},
		{"close of 126 bytes", f(closes, "\x03\xe8"+strings.Repeat("x", 124)), 1002, nil},
		{"message after close", f(closes, "\x03\xe8") + f(binary, hello), 1000, nil},

		// UTF-8.
		{"text kind", f(binary, "\x01κόσμε"), staysOpen, []string{"\x82\x01κόσμε"}},
		{"text kind, cut in a letter", f(0x02, "\x01\xce") + f(0x80, "\xba"), staysOpen, []string{"\x82\x01κ"}},
		{"text kind, not UTF-8", f(binary, "\x01\xff"), 4000, nil},
		{"text kind, overlong", f(binary, "\x01\xc0\xaf"), 4000, nil},
		{"text kind, a surrogate", f(binary, "\x01\xed\xa0\x80"), 4000, nil},
		{"text kind, beyond Unicode", f(binary, "\x01\xf4\x90\x80\x80"), 4000, nil},
		{"text kind, cut short", f(binary, "\x01\xe2\x82"), 4000, nil},
		{"control that is not UTF-8", f(text, "{\"type\":\"ack\",\"received\":0,\"x\":\"\xff\"}"), 4000, nil},
		{"control with a name that is not UTF-8", f(text, "{\"type\":\"ack\",\"received\":0,\"\xff\":1}"), 4000, nil},

		// Something else.
		{"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1002, nil},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 1002, nil},
		{"zeros", strings.Repeat("\x00", 4096), 0, nil},
		{"ones", strings.Repeat("\xff", 4096), 0, nil},

		// Controls of the protocol.
		{"control", f(text, `{"type":"ping","id":7}`), staysOpen, []string{"\x81" + string(proto.AppendControl(nil, proto.Control{Type: proto.TypePong, ID: 7}))}},
		{"unknown control", f(text, `{"type":"nope"}`), 4000, nil},
		{"empty control", f(text, ""), 4000, nil},
	}
}
