package node

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/broker/session/redis"
	"github.com/usher-broker/usher/broker/session/redistest"
	"github.com/usher-broker/usher/proto"
)

// BenchmarkEcho measures a reliable message to the node and back over loopback. It
// also sends the same bytes through the bare WebSocket library in the same run: the
// metric "x-plain" is how many times as long the node takes.
func BenchmarkEcho(b *testing.B) {
	r := newRig(b, Echo{}, nil)
	c := r.attach(r.login("ada"), "")
	frame := proto.AppendMessage(nil, proto.Message{Data: make([]byte, 128)})
	acked := uint64(0)
	ours := func() {
		roundTrip(b, c.ws, frame)
		if acked++; acked%32 == 0 {
			c.sendControl(proto.Control{Type: proto.TypeAck, Received: acked})
		}
	}
	bare := bareEcho(b)
	plain := func() { roundTrip(b, bare, frame) }
	// Both are measured in turn, so that the load of the machine is the same for
	// both.
	var spent time.Duration
	b.ReportAllocs()
	for b.Loop() {
		ours()
		b.StopTimer()
		start := time.Now()
		plain()
		spent += time.Since(start)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed())/float64(spent), "x-plain")
}

// BenchmarkCheckpoint measures a message to the node and back with Config.Checkpoint
// and Redis, where every session is stored before the answer goes out. It compares
// with a node without checkpoints in the same run: for one client that waits for each
// answer, and for 64 clients at the same time, whose checkpoints are stored together.
// The metric "x-without" is how many times as long it takes.
func BenchmarkCheckpoint(b *testing.B) {
	server := redistest.Start(b)
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprint("clients=", clients), func(b *testing.B) {
			trips := func(checkpoint bool) func() {
				r := newRig(b, Echo{}, func(c *Config) {
					store, err := redis.Open(server.URL(), redis.Options{})
					if err != nil {
						b.Fatal(err)
					}
					c.Store, c.Checkpoint = store, checkpoint
				})
				var all []*client
				for i := range clients {
					all = append(all, r.attach(r.login(fmt.Sprint("user-", i)), ""))
				}
				frame, n := proto.AppendMessage(nil, proto.Message{Data: make([]byte, 128)}), uint64(0)
				return func() {
					n++
					var wg sync.WaitGroup
					for _, c := range all {
						wg.Go(func() {
							roundTrip(b, c.ws, frame)
							if n%32 == 0 {
								c.sendControl(proto.Control{Type: proto.TypeAck, Received: n})
							}
						})
					}
					wg.Wait()
				}
			}
			with, without := trips(true), trips(false)
			var spent time.Duration
			for b.Loop() {
				with()
				b.StopTimer()
				start := time.Now()
				without()
				spent += time.Since(start)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed())/float64(spent), "x-without")
			b.ReportMetric(float64(clients)*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// roundTrip sends the frame and reads until it comes back.
func roundTrip(b *testing.B, ws *websocket.Conn, frame []byte) {
	if err := ws.Write(context.Background(), websocket.MessageBinary, frame); err != nil {
		b.Fatal(err)
	}
	for {
		typ, _, err := ws.Read(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		if typ == websocket.MessageBinary {
			return
		}
	}
}

// bareEcho returns a connection to an echo server that is the library alone.
func bareEcho(b *testing.B) *websocket.Conn {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		for {
			typ, p, err := ws.Read(context.Background())
			if err != nil || ws.Write(context.Background(), typ, p) != nil {
				return
			}
		}
	}))
	b.Cleanup(web.Close)
	ws, _, err := websocket.Dial(context.Background(), "ws"+strings.TrimPrefix(web.URL, "http"), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ws.CloseNow() })
	return ws
}

// BenchmarkResume measures a broken connection, the handshake that resumes, and its
// welcome.
func BenchmarkResume(b *testing.B) {
	r := newRig(b, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	query := resumeQuery(c.welcome.Stream, 0)
	b.ReportAllocs()
	for b.Loop() {
		c.ws.CloseNow()
		if c = r.attach(claims, query); !c.welcome.Resumed {
			b.Fatalf("%+v", c.welcome)
		}
	}
}

// BenchmarkAttach measures the handshake of a new session, and its welcome.
func BenchmarkAttach(b *testing.B) {
	r := newRig(b, Echo{}, func(c *Config) { c.MaxSessions = 1 << 30 })
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		c := r.attach(r.login(fmt.Sprint("user-", n)), "")
		c.ws.CloseNow()
	}
}

// BenchmarkFan measures one message to all sessions of a node, until each of them has
// received it.
func BenchmarkFan(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint("sessions=", n), func(b *testing.B) {
			r := newRig(b, &Fan{}, nil)
			var all []*client
			for i := range n {
				all = append(all, r.attach(r.login(fmt.Sprint("user-", i)), ""))
			}
			r.awaitFanSize(n)
			m, sent := proto.Message{Data: make([]byte, 128)}, uint64(0)
			for b.Loop() {
				all[0].send(m)
				sent++
				for _, c := range all {
					c.message()
					if sent%32 == 0 {
						c.sendControl(proto.Control{Type: proto.TypeAck, Received: sent})
					}
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}

// BenchmarkRebalance50000 measures the choice of the sessions that one step of a
// rebalance asks, among 50,000 that were all used since the node has recorded their
// use: the most work that a step can have.
func BenchmarkRebalance50000(b *testing.B) {
	n := idleNode(b)
	used := instant(10 * manyIdle)
	all := n.all()
	for b.Loop() {
		b.StopTimer()
		for _, s := range all {
			used++
			s.used = used
		}
		b.StartTimer()
		if _, looked := n.longestIdle(100, time.Now()); looked != shedLooks {
			b.Fatalf("looked at %d sessions, want %d", looked, shedLooks)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N), "ns/tick")
}
