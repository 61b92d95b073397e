package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// TestHostileTraffic attacks a node in several ways: with connections that never
// authenticate, and with sessions that flood it. During each attack ten good
// clients must get every message echoed and keep their connections. After it the
// node's memory must return to the former value.
func TestHostileTraffic(t *testing.T) {
	c := startCluster(t, 1)
	node := c.nodes["node-1"]
	ca := newAuthority(t)
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	ca.issue(cert, key)
	secure := c.startNode("node-2", "--pool=other", "--tls-cert="+cert, "--tls-key="+key)

	var good []*bystander
	for i := range 10 {
		ws, _ := attach(t, c.mustLogin(fmt.Sprint("good-", i)), "")
		good = append(good, &bystander{ws: ws})
	}
	memory := func(p *process) float64 {
		for range 2 {
			post(t, p.ops+"/debug/free", "", "")
		}
		return p.metrics()["process_resident_memory_bytes"] / 1e6
	}
	many := pick(500, 10_000)
	for _, tt := range []struct {
		name string
		at   *process
		run  func(s *attack)
	}{
		{"idle connections", node, func(s *attack) { s.rawClients(many, "", "") }},
		{"idle connections on the TLS port", secure, func(s *attack) { s.rawClients(many, "", "") }},
		{"a ClientHello that never ends", secure, func(s *attack) { s.rawClients(many/2, "\x16\x03\x01\x02\x00\x01", "\x00") }},
		{"half a request", node, func(s *attack) { s.rawClients(many, "GET /v1/connect HTTP/1.1\r\nHost: x\r\nA: ", "") }},
		{"a byte a second", node, func(s *attack) { s.rawClients(many/2, "GET /v1/connect HTTP/1.1\r\nHost: x\r\nA: ", "a") }},
		{"handshakes with forged tokens", node, func(s *attack) { s.forgedTokens(4) }},
		{"floods of pings", node, func(s *attack) { s.flood(8, string(maskedFrame(0x89, "ping"))) }},
		{"floods of empty fragments", node, func(s *attack) {
			s.flood(8, string(maskedFrame(0x02, "\x00"))+strings.Repeat(string(maskedFrame(0, "")), 900)+string(maskedFrame(0x80, "")))
		}},
		{"floods of messages whose echoes are not read", node, func(s *attack) { s.flood(8, string(maskedFrame(0x82, "\x00"+strings.Repeat("x", 120)))) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, was := measure(t, good, pick(300*time.Millisecond, 3*time.Second)), memory(tt.at)
			s := newAttack(t, c, tt.at, tt.name)
			tt.run(s)
			during, top := measure(t, good, pick(800*time.Millisecond, 8*time.Second)), tt.at.metrics()["process_resident_memory_bytes"]/1e6
			s.end()
			await(t, "the attacking connections to be closed", 30*time.Second, func() bool {
				return tt.at.metrics()["usher_connections"] <= s.connsBefore
			})
			after := measure(t, good, pick(300*time.Millisecond, 3*time.Second))
			left := memory(tt.at)
			t.Logf("round trips p50/p99: %v before, %v during, %v after; resident %.0f MB before, %.0f during, %.0f after; %d connections, cut %d",
				before, during, after, was, top, left, s.opened, s.cut)
			if left > was+32 {
				t.Errorf("the resident memory grew by %.0f MB, want at most 32", left-was)
			}
			if s.expectCuts && s.cut == 0 {
				t.Error("the node closed none of the connections")
			}
		})
	}
}

// latency holds percentiles of round-trip times.
type latency struct{ p50, p99 time.Duration }

func (s latency) String() string {
	return fmt.Sprintf("%v/%v", s.p50.Round(10*time.Microsecond), s.p99.Round(10*time.Microsecond))
}

// bystander is a well-behaved client during an attack.
type bystander struct {
	ws       *websocket.Conn
	received int // messages, which is also the number of the next one
}

// measure has each client send messages and wait for their echoes for the
// duration, and returns the round-trip times.
func measure(t *testing.T, list []*bystander, duration time.Duration) latency {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	end := time.Now().Add(duration)
	for _, p := range list {
		wg.Go(func() {
			for time.Now().Before(end) {
				start := time.Now()
				sendText(t, p.ws, fmt.Sprint(p.received))
				expectText(t, p.ws, fmt.Sprint(p.received))
				mu.Lock()
				took = append(took, time.Since(start))
				mu.Unlock()
				p.received++
				ack := proto.AppendControl(nil, proto.Control{Type: proto.TypeAck, Received: uint64(p.received)})
				if err := p.ws.Write(context.Background(), websocket.MessageText, ack); err != nil {
					t.Errorf("acknowledging: %v", err)
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	if len(took) == 0 {
		t.Fatal("no message was echoed")
	}
	return latency{took[len(took)/2], took[len(took)*99/100]}
}

// attack is a set of connections that attack a node until end is called.
type attack struct {
	t           *testing.T
	c           *cluster
	node        *process
	name        string
	connsBefore float64 // connections of the node before the attack
	ctx         context.Context
	stop        context.CancelFunc
	wg          sync.WaitGroup
	expectCuts  bool // the node must close some of the connections

	mu     sync.Mutex
	conns  []net.Conn
	opened int
	cut    int
}

func newAttack(t *testing.T, c *cluster, node *process, name string) *attack {
	s := &attack{t: t, c: c, node: node, name: name, connsBefore: node.metrics()["usher_connections"]}
	s.ctx, s.stop = context.WithCancel(context.Background())
	t.Cleanup(s.end)
	return s
}

// end closes the connections and waits for the goroutines.
func (s *attack) end() {
	s.stop()
	s.mu.Lock()
	for _, c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// rawClients opens n connections that write first, and then more every second.
// A connection that the node closes is opened again.
func (s *attack) rawClients(n int, first, more string) {
	s.expectCuts = pick(false, true) // only slow runs last longer than the node's header timeout
	for range n {
		s.wg.Go(func() {
			for s.ctx.Err() == nil {
				s.rawClient(first, more)
			}
		})
	}
}

func (s *attack) rawClient(first, more string) {
	conn, err := net.Dial("tcp", s.node.listen)
	if err != nil {
		time.Sleep(100 * time.Millisecond)
		return
	}
	defer conn.Close()
	s.mu.Lock()
	s.opened++
	ended := s.ctx.Err() != nil
	if !ended {
		s.conns = append(s.conns, conn)
	}
	s.mu.Unlock()
	if ended {
		return
	}
	_, _ = io.WriteString(conn, first)
	for s.ctx.Err() == nil {
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		_, err := conn.Read(make([]byte, 512))
		if late, ok := err.(net.Error); err != nil && !(ok && late.Timeout()) {
			if s.ctx.Err() == nil {
				s.mu.Lock()
				s.cut++
				s.mu.Unlock()
			}
			return
		}
		_, _ = io.WriteString(conn, more)
	}
}

// forgedTokens has n clients that try to attach with a forged token, each one
// attempt after the other.
func (s *attack) forgedTokens(n int) {
	good := s.c.mustLogin("forger")
	forged := good.Token[:len(good.Token)-8] + "AAAAAAAA"
	for range n {
		s.wg.Go(func() {
			for s.ctx.Err() == nil {
				ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
				ws, _, err := websocket.Dial(ctx, good.Node.URL, &websocket.DialOptions{
					HTTPClient: web, HTTPHeader: map[string][]string{"Authorization": {"Bearer " + forged}}, Subprotocols: []string{proto.Subprotocol},
				})
				cancel()
				if err == nil {
					ws.CloseNow()
					s.t.Error("the node accepted a forged token")
					return
				}
				s.mu.Lock()
				s.opened++
				s.mu.Unlock()
			}
		})
	}
}

// flood attaches n clients that write the frames in a loop and never read.
func (s *attack) flood(n int, frames string) {
	for i := range n {
		at := s.c.mustLogin(fmt.Sprint(s.name, "-", i))
		conn, _, resp := rawRequest(s.t, s.node.listen, "GET "+proto.ConnectPath+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: "+proto.Subprotocol+"\r\n"+
			"Authorization: Bearer "+at.Token+"\r\n\r\n")
		if resp.StatusCode != 101 {
			s.t.Fatal(resp.Status)
		}
		_ = conn.SetDeadline(time.Time{})
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.opened++
		s.mu.Unlock()
		s.wg.Go(func() {
			for {
				if _, err := io.WriteString(conn, frames); err != nil {
					if s.ctx.Err() == nil {
						s.mu.Lock()
						s.cut++
						s.mu.Unlock()
					}
					return
				}
			}
		})
	}
}

// maskedFrame returns a masked WebSocket frame. The payload must be shorter than
// 126 bytes.
func maskedFrame(first byte, payload string) []byte {
	return append([]byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
}
