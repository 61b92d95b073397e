package wire

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/node/internal/wire/wiretest"
)

// serveLibrary is an echo over the WebSocket library.
func serveLibrary(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	for {
		typ, b, err := ws.Read(context.Background())
		if err != nil || ws.Write(context.Background(), typ, b) != nil {
			return
		}
	}
}

// newLibraryRig returns a rig whose server is the WebSocket library.
func newLibraryRig(b *testing.B) *rig {
	r := &rig{t: b, http: httptest.NewServer(http.HandlerFunc(serveLibrary))}
	b.Cleanup(r.http.Close)
	return r
}

// BenchmarkEcho measures a message to the server and back over loopback, beside the
// WebSocket library.
func BenchmarkEcho(b *testing.B) {
	for _, size := range []int{128, 16 << 10} {
		for name, rig := range map[string]func(b *testing.B) *rig{
			"wire":    func(b *testing.B) *rig { return newRig(b, testConfig(), false) },
			"library": newLibraryRig,
		} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				c := rig(b).rawDial()
				defer c.Close()
				if err := c.SetDeadline(time.Time{}); err != nil {
					b.Fatal(err)
				}
				frame := wiretest.Masked(nil, 0x82, make([]byte, size))
				back := make([]byte, len(frame)-4)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Write(frame); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(c, back); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkStream measures messages that arrive many at a time, without the network:
// what parsing, unmasking and handing over cost.
func BenchmarkStream(b *testing.B) {
	for _, size := range []int{32, 512, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := New(testConfig())
			frame := wiretest.Masked(nil, 0x82, make([]byte, size))
			conn := &script{step: 1 << 20, end: io.EOF, in: bytes.Repeat(frame, b.N)}
			h := &counting{closed: make(chan struct{})}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			s.NewConn(conn).Serve(h)
			<-h.closed
			if h.n != b.N {
				b.Fatalf("%d of %d messages", h.n, b.N)
			}
		})
	}
}

type counting struct {
	n      int
	closed chan struct{}
}

func (h *counting) Message(bool, []byte) error { h.n++; return nil }
func (h *counting) Closed(error)               { close(h.closed) }

// BenchmarkMemory measures the memory of a silent connection, the client's end of it
// included: at rest, waiting with a goroutine, with the WebSocket library, and without
// anything above the net.Conn ("bare").
func BenchmarkMemory(b *testing.B) {
	b.Run("rest", func(b *testing.B) {
		r := newRig(b, testConfig(), false)
		measure(b, func() {
			r.rawDial()
			r.last().awaitRest(b)
		})
	})
	b.Run("waiting", func(b *testing.B) {
		r := newRig(b, testConfig(), false)
		measure(b, func() { r.rawDial() })
	})
	b.Run("library", func(b *testing.B) {
		r := newLibraryRig(b)
		measure(b, func() { r.rawDial() })
	})
	b.Run("bare", func(b *testing.B) {
		var mu sync.Mutex
		var conns []net.Conn
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = c.Write(switching(http.Header{}, "", ""))
			mu.Lock()
			defer mu.Unlock()
			conns = append(conns, c)
		}))
		b.Cleanup(func() {
			for _, c := range conns {
				c.Close()
			}
			server.Close()
		})
		r := &rig{t: b, http: server}
		measure(b, func() { r.rawDial() })
	})
}

// measure reports the memory of what dial makes.
func measure(b *testing.B, dial func()) {
	const n = 1000
	dial() // the first has what all share
	before := memory()
	for range n {
		dial()
	}
	time.Sleep(50 * time.Millisecond) // handlers of HTTP end
	after := memory()
	for b.Loop() {
		continue
	}
	b.ReportMetric(float64(after-before)/n, "B/conn")
	b.ReportMetric(0, "ns/op")
}

// memory returns what the heap and the stacks use.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
