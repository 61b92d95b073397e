package usher

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

func fast(w *proto.Welcome) { w.PingIntervalMS = 1000 }

// The client pings once per interval, and measures the round trip by the pong.
func TestPing(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attachWith(w.config(), fast)
		p.wantControl(`{"type":"ping","id":1}`)
		if w.since() != time.Second {
			t.Errorf("pinged after %v", w.since())
		}
		p.control(proto.Control{Type: proto.TypePong, ID: 7}) // unexpected
		synctest.Wait()
		if s.RTT() != 0 {
			t.Errorf("round trip %v after an unexpected pong", s.RTT())
		}
		time.Sleep(80 * time.Millisecond)
		p.control(proto.Control{Type: proto.TypePong, ID: 1})
		synctest.Wait()
		if s.RTT() != 80*time.Millisecond {
			t.Errorf("round trip %v", s.RTT())
		}
		p.control(proto.Control{Type: proto.TypePong, ID: 1})
		p.wantControl(`{"type":"ping","id":2}`)
		if s.RTT() != 80*time.Millisecond {
			t.Errorf("round trip %v after the same pong twice", s.RTT())
		}
	})
}

// The client gives up a connection after 2.5 intervals without activity. It cannot
// notice a half-open connection in any other way.
func TestNoActivity(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attachWith(w.config(), fast)
		time.Sleep(300 * time.Millisecond)
		p.send("x")
		synctest.Wait()
		p.wire.lose()
		send(t, s, "a")
		w.wantCut(1006)
		if w.since() != 2800*time.Millisecond {
			t.Errorf("noticed after %v", w.since())
		}
		a := w.nodes["n1"].next().names("s1", "1")
		if a.at != w.since()+50*time.Millisecond && a.at != w.since() {
			t.Errorf("attached after %v", a.at)
		}
		p = a.accept()
		p.resume(0)
		p.want("a")
	})
}

// Messages, controls and ping frames all count as activity.
func TestActivity(t *testing.T) {
	for name, sign := range map[string]func(p *peer){
		"messages":    func(p *peer) { p.send("x") },
		"controls":    func(p *peer) { p.text(`{"type":"later"}`) },
		"ping frames": func(p *peer) { go func() { _ = p.ws.Ping(context.Background()) }() },
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				s, p := w.attachWith(w.config(), fast)
				go func() {
					for _, _, err := p.ws.Read(context.Background()); err == nil; _, _, err = p.ws.Read(context.Background()) {
					}
				}()
				go func() {
					for s.State() != Ended {
						_, _ = s.Receive(context.Background())
					}
				}()
				for range 20 {
					time.Sleep(2 * time.Second)
					sign(p)
				}
				if len(w.states) > 0 {
					t.Fatalf("notified of %+v", <-w.states)
				}
			})
		})
	}
}

// A large message that arrives slowly counts as activity.
func TestSlowNetwork(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attachWith(w.config(), func(wel *proto.Welcome) {
			fast(wel)
			wel.MaxMessageBytes, wel.MaxUnackedBytes = 1<<20, 1<<20
		})
		p.wire.ends[1].slow()
		large := strings.Repeat("x", 40_000)
		began := w.since()
		p.send(large)
		receive(t, s, large)
		if took := w.since() - began; took < 10*time.Second {
			t.Errorf("the message took %v, too short for this test", took)
		}
		if len(w.states) > 0 {
			t.Fatalf("notified of %+v", <-w.states)
		}
	})
}

func TestPong(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		_, p := w.attach()
		for id := range uint64(3) {
			p.control(proto.Control{Type: proto.TypePing, ID: id})
		}
		p.wantControl(`{"type":"pong","id":0}`)
		p.wantControl(`{"type":"pong","id":1}`)
		p.wantControl(`{"type":"pong","id":2}`)
	})
}

// After a change of network, a pong within 2 s keeps the connection.
func TestNetworkChangedAlive(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		for id := range uint64(2) {
			s.NetworkChanged()
			p.wantControl([]string{`{"type":"ping","id":1}`, `{"type":"ping","id":2}`}[id])
			time.Sleep(1900 * time.Millisecond)
			p.control(proto.Control{Type: proto.TypePong, ID: id + 1})
			time.Sleep(time.Minute)
		}
		if len(w.states) > 0 {
			t.Fatalf("notified of %+v", <-w.states)
		}
	})
}

// Without a pong within 2 s, the client opens a new connection at once, and ignores
// the old one.
func TestNetworkChangedDead(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, old := w.attach()
		send(t, s, "a")
		old.want("a")
		s.NetworkChanged()
		s.NetworkChanged() // changes nothing
		a := w.nodes["n1"].next().names("s1", "0")
		if a.at != 2*time.Second {
			t.Errorf("attached after %v", a.at)
		}
		p := a.accept()
		p.resume(1)
		w.wantCut(1006)
		w.wantState(Attached)
		_ = old.ws.Write(t.Context(), websocket.MessageBinary, []byte("\x01late"))
		old.close(proto.CloseReplaced)
		p.send("x")
		receive(t, s, "x")
		if len(w.states) > 0 {
			t.Fatalf("notified of %+v", <-w.states)
		}
	})
}

// A session that waits before its next attempt makes it at once.
func TestNetworkChangedWaiting(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		w.auth.answers(refuse(503, proto.ProblemNoCapacity, 60))
		p.close(proto.CloseGoingAway)
		w.auth.want("/v1/login", "")
		w.auth.want("/v1/reconnect", "{}")
		time.Sleep(time.Second)
		w.auth.answers(nil)
		s.NetworkChanged()
		if r := w.auth.want("/v1/reconnect", "{}"); r.at != w.since() || r.at > 2*time.Second {
			t.Errorf("asked after %v", r.at)
		}
	})
}
