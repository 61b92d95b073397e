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

// TestSiege has strangers and clients of ill will do to a node what they can from
// outside, and looks at what the others notice of it: each of their messages comes
// back, their connections stay, and the memory goes back to what it was.
func TestSiege(t *testing.T) {
	c := startCluster(t, 1)
	node := c.nodes["node-1"]
	ca := newAuthority(t)
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	ca.issue(cert, key)
	secure := c.startNode("node-2", "--pool=other", "--tls-cert="+cert, "--tls-key="+key)

	var good []*prober
	for i := range 10 {
		ws, _ := attach(t, c.enter(fmt.Sprint("good-", i)), "")
		good = append(good, &prober{ws: ws})
	}
	memory := func(p *process) float64 {
		for range 2 {
			post(t, p.ops+"/debug/free", "", "")
		}
		return p.metrics()["process_resident_memory_bytes"] / 1e6
	}
	crowd := pick(500, 10_000)
	for _, siege := range []struct {
		name   string
		at     *process
		strike func(s *siege)
	}{
		{"connections that say nothing", node, func(s *siege) { s.strangers(crowd, "", "") }},
		{"connections that begin no TLS", secure, func(s *siege) { s.strangers(crowd, "", "") }},
		{"a ClientHello that never ends", secure, func(s *siege) { s.strangers(crowd/2, "\x16\x03\x01\x02\x00\x01", "\x00") }},
		{"half a request", node, func(s *siege) { s.strangers(crowd, "GET /v1/connect HTTP/1.1\r\nHost: x\r\nA: ", "") }},
		{"a byte a second", node, func(s *siege) { s.strangers(crowd/2, "GET /v1/connect HTTP/1.1\r\nHost: x\r\nA: ", "a") }},
		{"handshakes with forged tokens", node, func(s *siege) { s.forgers(4) }},
		{"floods of pings", node, func(s *siege) { s.flood(8, string(maskedFrame(0x89, "ping"))) }},
		{"floods of empty fragments", node, func(s *siege) {
			s.flood(8, string(maskedFrame(0x02, "\x00"))+strings.Repeat(string(maskedFrame(0, "")), 900)+string(maskedFrame(0x80, "")))
		}},
		{"floods of messages that nobody reads back", node, func(s *siege) { s.flood(8, string(maskedFrame(0x82, "\x00"+strings.Repeat("x", 120)))) }},
	} {
		t.Run(siege.name, func(t *testing.T) {
			before, was := probe(t, good, pick(300*time.Millisecond, 3*time.Second)), memory(siege.at)
			s := newSiege(t, c, siege.at, siege.name)
			siege.strike(s)
			during, top := probe(t, good, pick(800*time.Millisecond, 8*time.Second)), siege.at.metrics()["process_resident_memory_bytes"]/1e6
			s.lift()
			await(t, "the strangers to be gone", 30*time.Second, func() bool {
				return siege.at.metrics()["usher_connections"] <= s.there
			})
			after := probe(t, good, pick(300*time.Millisecond, 3*time.Second))
			left := memory(siege.at)
			t.Logf("round trips p50/p99: %v before, %v during, %v after; resident %.0f MB before, %.0f during, %.0f after; %d connections, cut %d",
				before, during, after, was, top, left, s.opened, s.cut)
			if left > was+32 {
				t.Errorf("%.0f MB are left behind", left-was)
			}
			if s.must && s.cut == 0 {
				t.Error("none of the connections was cut")
			}
		})
	}
}

// spread is how long something takes.
type spread struct{ p50, p99 time.Duration }

func (s spread) String() string {
	return fmt.Sprintf("%v/%v", s.p50.Round(10*time.Microsecond), s.p99.Round(10*time.Microsecond))
}

// prober is a client that minds its own business.
type prober struct {
	ws    *websocket.Conn
	heard int
}

// probe has everyone say something and hear it again, over and over.
func probe(t *testing.T, list []*prober, over time.Duration) spread {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	end := time.Now().Add(over)
	for _, p := range list {
		wg.Go(func() {
			for time.Now().Before(end) {
				start := time.Now()
				say(t, p.ws, fmt.Sprint(p.heard))
				hear(t, p.ws, fmt.Sprint(p.heard))
				mu.Lock()
				took = append(took, time.Since(start))
				mu.Unlock()
				p.heard++
				ack := proto.AppendControl(nil, proto.Control{Type: proto.TypeAck, Received: uint64(p.heard)})
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
		t.Fatal("nothing came back")
	}
	return spread{took[len(took)/2], took[len(took)*99/100]}
}

// siege is what attacks a node, until it is lifted.
type siege struct {
	t     *testing.T
	c     *cluster
	node  *process
	name  string
	there float64 // connections before
	ctx   context.Context
	stop  context.CancelFunc
	goes  sync.WaitGroup
	must  bool // some connections are to be cut

	mu     sync.Mutex
	conns  []net.Conn
	opened int
	cut    int
}

func newSiege(t *testing.T, c *cluster, node *process, name string) *siege {
	s := &siege{t: t, c: c, node: node, name: name, there: node.metrics()["usher_connections"]}
	s.ctx, s.stop = context.WithCancel(context.Background())
	t.Cleanup(s.lift)
	return s
}

func (s *siege) lift() {
	s.stop()
	s.mu.Lock()
	for _, c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.goes.Wait()
}

// strangers connect, say what they say, and then a word each second. Those that
// the node cuts come again.
func (s *siege) strangers(n int, first, word string) {
	s.must = pick(false, true) // the deadline of a request has passed by the end
	for range n {
		s.goes.Go(func() {
			for s.ctx.Err() == nil {
				s.stranger(first, word)
			}
		})
	}
}

func (s *siege) stranger(first, word string) {
	conn, err := net.Dial("tcp", s.node.listen)
	if err != nil {
		time.Sleep(100 * time.Millisecond)
		return
	}
	defer conn.Close()
	s.mu.Lock()
	s.opened++
	over := s.ctx.Err() != nil
	if !over {
		s.conns = append(s.conns, conn)
	}
	s.mu.Unlock()
	if over {
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
		_, _ = io.WriteString(conn, word)
	}
}

// forgers attach with tokens that are none, one after the other.
func (s *siege) forgers(n int) {
	good := s.c.enter("forger")
	forged := good.Token[:len(good.Token)-8] + "AAAAAAAA"
	for range n {
		s.goes.Go(func() {
			for s.ctx.Err() == nil {
				ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
				ws, _, err := websocket.Dial(ctx, good.Node.URL, &websocket.DialOptions{
					HTTPClient: web, HTTPHeader: map[string][]string{"Authorization": {"Bearer " + forged}}, Subprotocols: []string{proto.Subprotocol},
				})
				cancel()
				if err == nil {
					ws.CloseNow()
					s.t.Error("a forged token opened a door")
					return
				}
				s.mu.Lock()
				s.opened++
				s.mu.Unlock()
			}
		})
	}
}

// flood has clients with sessions write the frames, over and over, and read
// nothing.
func (s *siege) flood(n int, frames string) {
	for i := range n {
		at := s.c.enter(fmt.Sprint(s.name, "-", i))
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
		s.goes.Go(func() {
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

// maskedFrame returns a frame of fewer than 126 bytes as clients send it.
func maskedFrame(first byte, payload string) []byte {
	return append([]byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
}
