package wire

import (
	"context"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

func eachTransport(t *testing.T, f func(t *testing.T, secure bool)) {
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "TLS"}[secure], func(t *testing.T) { f(t, secure) })
	}
}

// Messages of every size come back, of either kind and in order.
func TestEcho(t *testing.T) {
	eachTransport(t, func(t *testing.T, secure bool) {
		r := newRig(t, testConfig(), secure)
		ws := r.dial()
		for _, size := range []int{0, 1, 125, 126, 2000, 2048, 4090, 4096, 65535, testMaxBinary} {
			want := strings.Repeat("x", size)
			if err := ws.Write(context.Background(), websocket.MessageBinary, []byte(want)); err != nil {
				t.Fatal(err)
			}
			typ, b, err := ws.Read(context.Background())
			if err != nil || typ != websocket.MessageBinary || string(b) != want {
				t.Fatalf("size %d: got %v of %d bytes, %v", size, typ, len(b), err)
			}
		}
		if err := ws.Close(websocket.StatusNormalClosure, "bye"); err != nil {
			t.Error(err)
		}
		t.Log(r.last().awaitClosed(t))
	})
}
