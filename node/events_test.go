package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// fakeSession adds a session to the node.
func fakeSession(t testing.TB, n *Node, id string) *Session {
	t.Helper()
	s, err := n.addSession(session.Record{ID: id, Node: n.cfg.ID}, proto.Claims{Session: id}, nil)
	if err != nil {
		t.Fatalf("the session was refused: %v", err)
	}
	return s
}

// fakeAttach attaches a connection to the session that carries nothing: it seems to
// have a writer already, so no other is started. Its welcome is written if welcomed.
func fakeAttach(s *Session, welcomed bool) {
	side, other := net.Pipe()
	other.Close()
	c := &conn{session: s, ws: s.node.wire.NewConn(side), writing: true}
	if !welcomed {
		c.urgent = []byte("welcome")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		s.node.attached.Add(1)
	}
	c.pingAt = time.Now().Add(s.node.cfg.PingInterval)
	s.conn = c
	if s.phase != moving {
		_ = s.enter(attached)
	}
	s.update(time.Now())
}

// fakeDetach is detach for such a connection.
func fakeDetach(s *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return
	}
	s.conn, s.detached = nil, time.Now()
	s.lostConnection()
	s.node.attached.Add(-1)
	s.update(s.detached)
}

// fakeWrite writes what the connection has to write.
func fakeWrite(s *Session) {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c != nil {
		c.nextFrame()
	}
}

// forgotten returns why no later event would make the session leave, or "".
func (n *Node) forgotten(s *Session) string {
	n.mu.Lock()
	_, registered := n.sessions[s.ID]
	persisting := n.persisting[s] != nil
	n.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	n.drainQueue.mu.Lock()
	defer n.drainQueue.mu.Unlock()
	c := s.conn
	switch {
	case !registered, persisting, s.held, s.phase == moving, s.inDrain != notInDrain:
		return ""
	case c != nil && (c.stage != connOpen || c.urgent != nil):
		return ""
	}
	return fmt.Sprintf("session %s: attached %v, asked at %v, and nothing will make it leave", s.ID, c != nil, s.goAwayAt)
}

// Whatever happens to the sessions of a node that drains, none is forgotten.
func TestDrainForgetsNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := plainNode(t)
		n.log = slog.New(slog.DiscardHandler)
		n.setRunning(true)
		now := time.Now()
		var all []*Session
		for i := range 6 {
			all = append(all, fakeSession(t, n, fmt.Sprint("s-", i)))
		}
		which := rapid.Custom(func(rt *rapid.T) *Session { return rapid.SampledFrom(all).Draw(rt, "session") })
		n.persistSlots = make(chan struct{}, 1) // sessions often wait for a slot
		actions := map[string]func(*rapid.T){
			"attach": func(rt *rapid.T) { fakeAttach(which.Draw(rt, "s"), rapid.Bool().Draw(rt, "welcomed")) },
			"detach": func(rt *rapid.T) { fakeDetach(which.Draw(rt, "s")) },
			"write":  func(rt *rapid.T) { fakeWrite(which.Draw(rt, "s")) },
			"hold":   func(rt *rapid.T) { which.Draw(rt, "s").hold(rapid.Bool().Draw(rt, "held")) },
			"freeze": func(rt *rapid.T) {
				if s := which.Draw(rt, "s"); s.callbackLock.TryLock() { // a move begins and fails
					if s.freeze() == nil {
						n.stepGoAways(t.Context(), now)
						s.thaw()
					}
					s.callbackLock.Unlock()
				}
			},
			"drain": func(rt *rapid.T) {
				if err := n.Drain(DrainPlan{Window: time.Second, Timeout: time.Hour, Keep: true}); err != nil {
					rt.Fatal(err)
				}
			},
			"undrain": func(rt *rapid.T) { _ = n.Undrain() },
			"step": func(rt *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 6000).Draw(rt, "ms")) * time.Millisecond)
				n.stepGoAways(t.Context(), now)
			},
			"": func(rt *rapid.T) {
				if n.Draining() == nil {
					return
				}
				for _, s := range all {
					if why := n.forgotten(s); why != "" {
						rt.Fatal(why)
					}
				}
			},
		}
		rt.Repeat(actions)
		for _, s := range n.all() {
			fakeDetach(s)
		}
		if err := n.Shutdown(t.Context()); err != nil {
			rt.Fatal(err)
		}
	})
}

const manyIdle = 50_000

// idleNode returns a node with many attached sessions that have just been used, so
// everything that its heap has recorded is out of date.
func idleNode(t testing.TB) *Node {
	n := plainNode(t)
	n.cfg.MaxSessions = 2 * manyIdle
	side, other := net.Pipe()
	other.Close()
	under := n.wire.NewConn(side)
	for i := range manyIdle {
		s := fakeSession(t, n, fmt.Sprint("s-", i))
		s.mu.Lock()
		_ = s.enter(attached)
		s.conn = &conn{session: s, ws: under, writing: true}
		s.used = instant(i)
		s.update(time.Now())
		s.used = instant(manyIdle + 2*i%manyIdle)
		s.mu.Unlock()
	}
	return n
}

// A step of a rebalance looks at few sessions, however many the node holds, and takes
// the longest idle of those.
func TestShedManySessions(t *testing.T) {
	n := idleNode(t)
	seen := map[*Session]bool{}
	for range 2 * manyIdle / shedLooks {
		list, looked := n.longestIdle(100, time.Now())
		if looked > shedLooks {
			t.Fatalf("looked at %d sessions, want at most %d", looked, shedLooks)
		}
		if len(list) != 100 {
			t.Fatalf("%d sessions, want 100", len(list))
		}
		if !slices.IsSortedFunc(list, func(a, b *Session) int { return int(a.used - b.used) }) {
			t.Fatal("the longest idle is not the first")
		}
		for _, s := range list {
			if seen[s] {
				t.Fatalf("session %s was found twice", s.ID)
			}
			seen[s] = true
			s.setLeaving(at(time.Now().Add(time.Minute)))
		}
	}
	if got, want := len(n.idle.list), manyIdle-len(seen); got != want || int(n.leaving.Load()) != len(seen) {
		t.Errorf("%d sessions may still be asked and %d are leaving, want %d and %d", got, n.leaving.Load(), want, len(seen))
	}
}

// Once the recorded uses are right, the order is exact. Sessions that may not be asked
// now are passed over and come back.
func TestShedExactOrder(t *testing.T) {
	n := plainNode(t)
	const many = 200
	var all []*Session
	for i := range many {
		s := fakeSession(t, n, fmt.Sprint("s-", i))
		fakeAttach(s, true)
		s.mu.Lock()
		s.used = at(time.Now().Add(time.Duration(i*37%many) * time.Second))
		if i%5 == 0 {
			s.goAwayAt = at(time.Now())
		}
		s.mu.Unlock()
		if i%5 == 1 {
			s.Hold()
		}
		all = append(all, s)
	}
	want := slices.DeleteFunc(slices.Clone(all), func(s *Session) bool { return s.held || s.goAwayAt != 0 })
	slices.SortFunc(want, func(a, b *Session) int { return int(a.used - b.used) })
	if list, _ := n.longestIdle(many, time.Now()); !slices.Equal(list, want) {
		t.Errorf("%d sessions in another order than want, which are %d", len(list), len(want))
	}
	for _, s := range all {
		s.Release()
	}
	slices.SortFunc(all, func(a, b *Session) int { return int(a.used - b.used) })
	if list, _ := n.longestIdle(many, time.Now().Add(goAwayRetry)); !slices.Equal(list, all) {
		t.Errorf("%d sessions, want all %d in order", len(list), many)
	}
}

// A connection that rested and got a message rests again soon, and one that is busy
// needs no timer for each message.
func TestRestsAgain(t *testing.T) {
	n := plainNode(t)
	s := fakeSession(t, n, "s")
	fakeAttach(s, true)
	c, now := s.conn, time.Now()
	n.checkSession(s, now.Add(restAfter+time.Second))
	if !c.resting {
		t.Fatal("a silent connection does not rest")
	}
	if at, _ := n.timers.Next(); at.Sub(now) < n.cfg.PingInterval {
		t.Errorf("the next check of a resting connection is in %v", at.Sub(now))
	}
	s.mu.Lock()
	c.noteActive()
	s.mu.Unlock()
	if at, _ := n.timers.Next(); at.Sub(now) > restAfter+2*n.cfg.tick() {
		t.Errorf("the next check after a message is in %v", at.Sub(now))
	}
	fakeDetach(s)
	if at, _ := n.timers.Next(); at.Sub(now) < n.cfg.ResumeWindow {
		t.Errorf("the next check of a detached session is in %v", at.Sub(now))
	}
	n.end(s, proto.CloseSessionEnded, "", false)
	if n.timers.Len() != 0 {
		t.Error("a session that has ended has a timer")
	}
}

// Without a drain and without an order, nothing wakes the loop that asks clients to
// leave: with a wake-up every second this test would not end.
func TestGoAwaysSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{}
		n.drainQueue.wake = make(chan struct{}, 1)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go n.runGoAways(ctx)
		time.Sleep(1e6 * time.Hour)
	})
}

// The wait that a drain computes from its rate is neither too short to be useful nor
// longer than until the next session may be asked.
func TestDrainPace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		began := time.Now()
		d := &drain{
			plan:  DrainPlan{Window: time.Duration(rapid.IntRange(1, 20_000).Draw(t, "window")) * time.Millisecond, Rate: rapid.Float64Range(1, 1000).Draw(t, "rate")},
			began: began, total: rapid.IntRange(1, 10_000).Draw(t, "total"),
		}
		now := began.Add(time.Duration(rapid.IntRange(0, 30_000).Draw(t, "ms")) * time.Millisecond)
		d.asked.Store(d.allowed(now) + int64(rapid.IntRange(0, 100).Draw(t, "more")))
		at := now.Add(d.nextAllowed(now))
		if before := d.allowed(at.Add(-time.Millisecond)); before > d.asked.Load() {
			t.Fatalf("%v after the start %d may have been asked, more than %d, and the drain still waits", at.Sub(began), before, d.asked.Load())
		}
		if after := d.allowed(at.Add(time.Millisecond)); after <= d.asked.Load() {
			t.Fatalf("%v after the start only %d may have been asked, and %d were", at.Sub(began), after, d.asked.Load())
		}
	})
}
