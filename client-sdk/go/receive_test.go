package usher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// A message is acknowledged 0.1 s after the application calls Receive for the next
// one, and not before.
func TestAckWhenHandled(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		p.send("x", "y")
		receive(t, s, "x")
		time.Sleep(time.Second) // the application handles the message
		receive(t, s, "y")
		came := w.since()
		p.wantControl(`{"type":"ack","received":1}`)
		if d := w.since() - came; d != ackDelay {
			t.Errorf("acknowledged after %v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("receive: %v", err)
		}
		p.wantControl(`{"type":"ack","received":2}`)
		p.silent(time.Minute) // no second ack of the same count
	})
}

// After 32 messages, or a quarter of either limit, an ack does not wait.
func TestAckAtOnce(t *testing.T) {
	tests := map[string]struct {
		bounds  func(*proto.Welcome)
		handled int
		size    int
	}{
		"32 messages":           {func(w *proto.Welcome) { w.MaxUnackedMessages = 1000 }, 32, 1},
		"a quarter in messages": {func(w *proto.Welcome) { w.MaxUnackedMessages = 20 }, 5, 1},
		"a quarter in bytes":    {func(w *proto.Welcome) { w.MaxUnackedMessages = 1000 }, 10, 10},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				s, p := w.attachWith(w.config(), tt.bounds)
				for range tt.handled + 1 {
					p.send(fmt.Sprintf("%*d", tt.size, 1))
				}
				for range tt.handled + 1 {
					receive(t, s, fmt.Sprintf("%*d", tt.size, 1))
				}
				came := w.since()
				p.wantControl(fmt.Sprintf(`{"type":"ack","received":%d}`, tt.handled))
				if w.since() != came {
					t.Errorf("acknowledged after %v", w.since()-came)
				}
			})
		})
	}
}

// The count of a handshake includes messages that are not handled. No later ack is
// lower.
func TestAckAfterResume(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		p.send("1", "2", "3")
		receive(t, s, "1")
		synctest.Wait() // until 3 is accepted
		p.wire.cut()
		p = w.nodes["n1"].next().names("s1", "3").accept()
		p.resume(0)
		receive(t, s, "2", "3")
		time.Sleep(time.Second)
		p.send("4", "5")
		receive(t, s, "4", "5")
		p.wantControl(`{"type":"ack","received":4}`)
	})
}

// Messages that were accepted before a reset are delivered before later ones, and do
// not count in the new stream.
func TestInboxAcrossReset(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		cfg := w.config()
		cfg.OnReset = func(r Reset) {
			for _, m := range r.Unconfirmed {
				if err := r.Session.TrySendText("again " + string(m.Data)); err != nil {
					t.Errorf("send again: %v", err)
				}
			}
			w.resets <- r
		}
		s, p := w.attachWith(cfg, nil)
		send(t, s, "a", "b")
		p.want("a", "b")
		p.ack(1)
		p.send("1", "2")
		receive(t, s, "1")
		synctest.Wait() // until 2 is accepted
		p.wire.cut()
		p = w.nodes["n1"].next().names("s1", "2").accept()
		p.welcome(func(wel *proto.Welcome) { wel.Stream, wel.Reason = "s2", proto.ResetNodeLost })
		r := <-w.resets
		if r.Reason != proto.ResetNodeLost || !slices.Equal(payloads(r.Unconfirmed), []string{"b"}) || r.Received != 2 || r.Session != s {
			t.Errorf("notified of %+v", r)
		}
		p.want("again b")
		p.send("3", "4")
		receive(t, s, "2", "3", "4")
		p.wantControl(`{"type":"ack","received":1}`)
		if st := s.Stats(); st.Resets != 1 || st.Lost != 1 {
			t.Errorf("%+v", st)
		}
		p.wire.cut()
		w.nodes["n1"].next().names("s2", "2")
	})
}

// A welcome without a reason, or with an unknown reason, is also a reset.
func TestResetReasons(t *testing.T) {
	for reason, want := range map[string]string{"": "unknown", "later": "later", "expired": "expired"} {
		inCluster(t, func(t *testing.T, w *cluster) {
			_, p := w.attach()
			p.wire.cut()
			w.nodes["n1"].next().accept().welcome(func(wel *proto.Welcome) { wel.Stream, wel.Reason = "s2", reason })
			if r := <-w.resets; r.Reason != want || r.Unconfirmed != nil {
				t.Errorf("notified of %+v, want %q", r, want)
			}
		})
	}
}

// Receive returns the remaining messages after the end of the session.
func TestReceiveAfterEnd(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		p.send("x", "y")
		p.close(4500)
		w.wantEnded(4500)
		receive(t, s, "x", "y")
		_, err := s.Receive(t.Context())
		var end *EndedError
		if !errors.As(err, &end) || end.Code != 4500 {
			t.Errorf("after the remaining messages: %v", err)
		}
	})
}

func TestReceiveWaiting(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		got := make(chan error, 1)
		go func() { _, err := s.Receive(context.Background()); got <- err }()
		synctest.Wait()
		p.close(proto.CloseKicked)
		if err := <-got; !errors.Is(err, ErrEnded) {
			t.Errorf("receive: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Receive(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// If an application does not receive for an hour, its session stays attached: it
// reads the messages that the node may send, and answers pings.
func TestSlowApplication(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attachWith(w.config(), func(wel *proto.Welcome) { wel.PingIntervalMS = 15000 })
		for i := range 8 { // as many as may be unacknowledged
			p.send(fmt.Sprint(i))
		}
		go func() {
			for {
				typ, b, err := p.ws.Read(context.Background())
				if err != nil {
					return
				}
				if c, err := proto.ParseControl(b); typ == websocket.MessageText && err == nil && c.Type == proto.TypePing {
					p.control(proto.Control{Type: proto.TypePong, ID: c.ID})
				}
			}
		}()
		for i := range 1000 {
			p.sendVolatile(fmt.Sprint("v", i))
		}
		time.Sleep(time.Hour)
		if len(w.states) > 0 {
			t.Fatalf("notified of %+v", <-w.states)
		}
		if n := s.Stats().VolatileDropped; n != 1000-maxInboxVolatiles {
			t.Errorf("dropped %d", n)
		}
		receive(t, s, "0", "1", "2", "3", "4", "5", "6", "7", fmt.Sprint("v", 1000-maxInboxVolatiles))
	})
}

// After a resume while the application is behind, the node may send more than the
// session keeps. The session then stops reading: it counts no message, still pings,
// and does not give up the connection for lack of activity.
func TestStalled(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		bounds := func(wel *proto.Welcome) { wel.PingIntervalMS, wel.MaxUnackedMessages = 15000, 4 }
		s, p := w.attachWith(w.config(), bounds)
		p.send("0", "1", "2", "3")
		synctest.Wait()
		p.wire.cut()
		w.wantState(Detached)
		p = w.nodes["n1"].next().names("s1", "4").accept()
		p.welcome(func(wel *proto.Welcome) { bounds(wel); wel.Resumed = true })
		w.wantState(Attached)
		p.send("4", "5", "6", "7")
		for i := range 20 { // five minutes
			p.wantControl(fmt.Sprintf(`{"type":"ping","id":%d}`, i+1))
		}
		if n := s.Stats().Received; n != 4 || s.State() != Attached {
			t.Errorf("accepted %d, state %s", n, s.State())
		}
		for i := range 6 {
			receive(t, s, fmt.Sprint(i))
			synctest.Wait()
		}
		p.wantControl(`{"type":"ack","received":5}`)
		receive(t, s, "6", "7")
	})
}

// A session whose application does not receive still notices that its connection is
// gone: it cannot read the end, but its write fails.
func TestStalledCut(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		bounds := func(wel *proto.Welcome) { wel.PingIntervalMS, wel.MaxUnackedMessages = 15000, 4 }
		s, p := w.attachWith(w.config(), bounds)
		p.send("0", "1", "2", "3", "4") // the fifth does not fit
		synctest.Wait()
		p.wire.cut()
		if len(w.states) > 0 {
			t.Fatalf("notified of %+v", <-w.states)
		}
		w.wantCut(1006)
		if w.since() > 15*time.Second+closeGrace {
			t.Errorf("noticed after %v", w.since())
		}
		p = w.nodes["n1"].next().names("s1", "4").accept()
		p.welcome(func(wel *proto.Welcome) { bounds(wel); wel.Resumed = true })
		w.wantState(Attached)
		p.send("4")
		receive(t, s, "0", "1", "2", "3", "4")
	})
}
