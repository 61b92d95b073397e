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

// The client pings once an interval, and learns the round trip from the pong.
func TestPing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, p := w.attachWith(w.config(), fast)
		p.wantControl(`{"type":"ping","id":1}`)
		if w.since() != time.Second {
			t.Errorf("pinged after %v", w.since())
		}
		p.control(proto.Control{Type: proto.TypePong, ID: 7}) // nobody asked
		synctest.Wait()
		if s.RTT() != 0 {
			t.Errorf("round trip %v of a pong that was not asked for", s.RTT())
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

// Silence of 2.5 intervals is a lost connection; a half-open one is noticed in
// no other way.
func TestSilence(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
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

// Whatever is heard is a sign of life: messages, controls, ping frames.
func TestSignsOfLife(t *testing.T) {
	for name, sign := range map[string]func(p *peer){
		"messages":    func(p *peer) { p.send("x") },
		"controls":    func(p *peer) { p.text(`{"type":"later"}`) },
		"ping frames": func(p *peer) { go func() { _ = p.ws.Ping(context.Background()) }() },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
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
					t.Fatalf("told %+v", <-w.states)
				}
			})
		})
	}
}

// A large message that takes its time is no silence either.
func TestSlowNetwork(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
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
			t.Errorf("it took %v", took)
		}
		if len(w.states) > 0 {
			t.Fatalf("told %+v", <-w.states)
		}
	})
}

func TestPong(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		_, p := w.attach()
		for id := range uint64(3) {
			p.control(proto.Control{Type: proto.TypePing, ID: id})
		}
		p.wantControl(`{"type":"pong","id":0}`)
		p.wantControl(`{"type":"pong","id":1}`)
		p.wantControl(`{"type":"pong","id":2}`)
	})
}

// After a change of network a pong within 2 s keeps the connection.
func TestNetworkChangedAlive(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, p := w.attach()
		for id := range uint64(2) {
			s.NetworkChanged()
			p.wantControl([]string{`{"type":"ping","id":1}`, `{"type":"ping","id":2}`}[id])
			time.Sleep(1900 * time.Millisecond)
			p.control(proto.Control{Type: proto.TypePong, ID: id + 1})
			time.Sleep(time.Minute)
		}
		if len(w.states) > 0 {
			t.Fatalf("told %+v", <-w.states)
		}
	})
}

// Without one a new connection is opened at once, and what comes from the old
// one is ignored.
func TestNetworkChangedDead(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
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
			t.Fatalf("told %+v", <-w.states)
		}
	})
}

// A session that waits before its next attempt makes it now.
func TestNetworkChangedWaiting(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
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
