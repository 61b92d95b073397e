package wire

import (
	"fmt"
	"strings"
	"testing"

	"github.com/usher-broker/usher/node/internal/wire/wiretest"
)

// The frames of RFC 6455, and what a malicious client makes of them: written at once,
// and byte by byte.
func TestWire(t *testing.T) {
	eachTransport(t, func(t *testing.T, secure bool) {
		r := newRig(t, testConfig(), secure)
		for _, c := range wireCases() {
			t.Run(c.Name, func(t *testing.T) {
				for _, step := range []int{1 << 20, 1, 7} {
					if step < 7 && len(c.Bytes) > 1000 {
						continue
					}
					conn := r.rawDial()
					code, back := c.Result(conn, step, false, nil)
					conn.Close()
					if code != c.Code || fmt.Sprintf("%.40q", back) != fmt.Sprintf("%.40q", c.Back) {
						t.Errorf("in steps of %d: ended with %d, got back %.40q; want %d, %.40q", step, code, back, c.Code, c.Back)
					}
				}
			})
		}
	})
}

func wireCases() []wiretest.Case {
	const text, binary, staysOpen = 0x81, 0x82, wiretest.StaysOpen
	f := func(first byte, payload string) string { return string(wiretest.Masked(nil, first, []byte(payload))) }
	hello := "\x00hello"
	return append(wiretest.FrameCases(), []wiretest.Case{
		// Text. It may be anything: only the handler knows what it is.
		{Name: "text", Bytes: f(text, "hello"), Code: staysOpen, Back: []string{"\x81hello"}},
		{Name: "empty text", Bytes: f(text, ""), Code: staysOpen, Back: []string{"\x81"}},
		{Name: "text that is not UTF-8", Bytes: f(text, "\xff"), Code: staysOpen, Back: []string{"\x81\xff"}},
		{Name: "text, cut in a letter", Bytes: f(0x01, "\xce") + f(0x80, "\xba"), Code: staysOpen, Back: []string{"\x81κ"}},
		{Name: "text too large by a byte", Bytes: f(text, strings.Repeat("x", testMaxText+1)), Code: 4004},
		{Name: "largest text", Bytes: f(text, strings.Repeat("x", testMaxText)), Code: staysOpen, Back: []string{"\x81" + strings.Repeat("x", testMaxText)}},
		{Name: "text that the handler refuses", Bytes: f(text, "refuse"), Code: 4000},
		{Name: "text that the handler refuses, and more", Bytes: f(text, "refuse") + strings.Repeat(f(binary, hello), 100), Code: 4000},
		{Name: "empty message", Bytes: f(binary, ""), Code: staysOpen, Back: []string{"\x82"}},
	}...)
}
