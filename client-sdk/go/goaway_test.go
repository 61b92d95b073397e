package usher

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/proto"
)

const goaway = `{"type":"goaway","reason":"drain","after_ms":1000,"by_ms":5000}`

// A session moves while the old connection still carries it. No message is sent or
// counted twice, and the old connection is closed after the welcome on the new one.
func TestGoAway(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, old := w.attach()
		w.auth.want("/v1/login", "")
		w.auth.names("n2")
		old.text(goaway)
		old.text(goaway)
		send(t, s, "a")
		old.want("a")
		if r := w.auth.want("/v1/reconnect", "{}"); r.at != 2*time.Second {
			t.Errorf("asked after %v", r.at)
		}
		w.wantState(Moving)
		a := w.nodes["n2"].next().names("s1", "0")
		old.send("x") // no longer counted
		old.ack(1)
		send(t, s, "b") // no longer sent on the old connection
		synctest.Wait()
		if n := s.Stats().Received; n != 0 {
			t.Errorf("%d counted while attaching to another node", n)
		}
		p := a.accept()
		p.resume(1)
		w.wantState(Attached)
		p.send("x", "y")
		receive(t, s, "x", "y")
		p.want("b")
		old.wantClose(1000)
		if s.Node() != "n2" {
			t.Errorf("the session is at %s", s.Node())
		}
		p.wire.cut()
		w.nodes["n2"].next().names("s1", "2")
	})
}

// The moment at which the client leaves is random, in the first half between after
// and by.
func TestGoAwayMoment(t *testing.T) {
	for draw, want := range map[float64]time.Duration{0: time.Second, 0.999: 2998 * time.Millisecond} {
		inCluster(t, func(t *testing.T, w *cluster) {
			cfg := w.config()
			cfg.Rand = func() float64 { return draw }
			_, old := w.attachWith(cfg, nil)
			w.auth.want("/v1/login", "")
			old.text(goaway)
			if r := w.auth.want("/v1/reconnect", "{}"); r.at.Round(time.Millisecond) != want {
				t.Errorf("asked after %v, want %v", r.at, want)
			}
		})
	}
}

// If the new node refuses the session, the session continues at the old node, accepts
// what arrived in the meantime, and tries again.
func TestGoAwayFails(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, old := w.attach()
		w.auth.want("/v1/login", "")
		w.auth.names("n2")
		old.text(goaway)
		w.auth.want("/v1/reconnect", "{}")
		a := w.nodes["n2"].next()
		old.send("x")
		send(t, s, "a")
		synctest.Wait()
		a.problem(503, proto.ProblemNoCapacity)
		receive(t, s, "x")
		old.want("a")
		w.wantState(Moving)
		w.auth.want("/v1/reconnect", `{"unreachable":"n2"}`)
		w.nodes["n2"].next().names("s1", "1").accept().resume(1)
		w.wantState(Attached)
	})
}

// If auth does not answer, the client asks again until the old node closes the
// connection.
func TestGoAwayWithoutAuth(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		_, old := w.attach()
		w.auth.want("/v1/login", "")
		w.auth.answers(refuse(http.StatusServiceUnavailable, proto.ProblemStoreUnavailable, 0))
		old.text(goaway)
		for range 3 {
			w.auth.want("/v1/reconnect", "{}")
		}
		w.wantState(Moving)
		if len(w.states) > 0 {
			t.Fatalf("notified of %+v", <-w.states)
		}
		w.auth.answers(nil)
		old.close(proto.CloseGoingAway)
		w.wantCut(proto.CloseGoingAway)
		w.nodes["n1"].next().names("s1", "0").accept().resume(0)
		w.wantState(Attached)
	})
}

// A move that loses the stream is a reset.
func TestGoAwayReset(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, old := w.attach()
		w.auth.names("n2")
		send(t, s, "a")
		old.text(goaway)
		w.nodes["n2"].next().accept().welcome(func(wel *proto.Welcome) {
			wel.Stream, wel.Reason = "s2", proto.ResetNodeLost
		})
		if r := <-w.resets; r.Reason != proto.ResetNodeLost || !slices.Equal(payloads(r.Unconfirmed), []string{"a"}) {
			t.Errorf("notified of %+v", r)
		}
		w.wantState(Moving)
		w.wantState(Attached)
		old.wantClose(1000)
	})
}

// If the node closes the old connection before the client has read the new welcome,
// the client ignores the close.
func TestGoAwayOldClosesFirst(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, old := w.attach()
		w.auth.names("n2")
		old.text(goaway)
		a := w.nodes["n2"].next()
		old.close(proto.CloseReplaced)
		synctest.Wait()
		w.wantState(Moving)
		p := a.accept()
		p.resume(0)
		w.wantState(Attached)
		p.send("x")
		receive(t, s, "x")
	})
}

// The node closes the old connection, and the welcome on the new one is lost: the
// client itself has replaced its connection, and the session is not over.
func TestGoAwayLostWelcome(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		_, old := w.attach()
		w.auth.names("n2")
		old.text(goaway)
		a := w.nodes["n2"].next()
		old.close(proto.CloseReplaced)
		synctest.Wait()
		a.accept().wire.cut()
		w.wantState(Moving)
		w.wantCut(1006)
		w.nodes["n2"].next().names("s1", "0").accept().resume(0)
		w.wantState(Attached)
	})
}

// If the new node ends the session, the session has ended.
func TestGoAwayEnded(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		_, old := w.attach()
		w.auth.names("n2")
		old.text(goaway)
		w.nodes["n2"].next().close(proto.CloseKicked)
		w.wantState(Moving)
		w.wantEnded(proto.CloseKicked)
		old.wantClose(0)
	})
}

// Close during a move also ends the attempt at the new node.
func TestCloseWhileMoving(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, old := w.attach()
		w.auth.names("n2")
		old.text(goaway)
		a := w.nodes["n2"].next()
		leave(s)
		if s.State() != Ended {
			t.Error("the session has not ended")
		}
		<-a.r.Context().Done()
	})
}

// A change of network during an attempt to attach to another node is remembered: if
// the attempt fails, the client probes the old connection.
func TestGoAwayNetworkChanged(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, old := w.attach()
		w.auth.names("n2")
		old.text(goaway)
		a := w.nodes["n2"].next()
		w.wantState(Moving)
		s.NetworkChanged()
		synctest.Wait()
		failed := w.since()
		a.problem(503, proto.ProblemNoCapacity)
		w.wantCut(1006)
		if d := w.since() - failed; d != probeWait {
			t.Errorf("given up after %v", d)
		}
	})
}
