package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// drainAll drains the node and waits until it is empty.
func (r *rig) drainAll(plan DrainPlan) {
	r.t.Helper()
	if err := r.node.Drain(plan); err != nil {
		r.t.Fatal(err)
	}
	r.awaitEmpty()
}

func (r *rig) awaitEmpty() {
	r.t.Helper()
	eventually(r.t, func() error {
		if d := r.node.Draining(); d == nil || d.Remaining > 0 {
			return fmt.Errorf("drain: %+v", d)
		}
		return nil
	})
}

// goaway reads until the node asks the client to leave.
func (c *client) goaway() proto.GoAway {
	c.t.Helper()
	for {
		if ctl := c.control(); ctl.Type == proto.TypeGoAway {
			return ctl.GoAway
		}
	}
}

// A drain asks clients to leave at an even rate, and ends when the last one has left.
func TestDrain(t *testing.T) {
	const many, window = 20, 400 * time.Millisecond
	r := newRig(t, Echo{}, nil)
	var all []proto.Claims
	var clients []*client
	for i := range many {
		claims := r.login(fmt.Sprint("user-", i))
		all, clients = append(all, claims), append(clients, r.attach(claims, ""))
	}
	start := time.Now()
	r.node.Drain(DrainPlan{Window: window})
	if d := r.node.Draining(); d.Total != many || d.Remaining != many || d.Cut != 0 {
		t.Errorf("%+v", d)
	}
	if state := r.node.State(); state != proto.StateDraining {
		t.Errorf("state %v", state)
	}
	if code := r.dial(r.login("late"), "").closed(); code != int(proto.CloseGoingAway) {
		t.Errorf("a new one: closed with %d", code)
	}
	for i, c := range clients {
		g := c.goaway()
		if g.Reason != "drain" || g.ByMS < 20_000 || g.ByMS > 25_000 {
			t.Errorf("%+v", g)
		}
		select {
		case <-r.node.Drained():
			t.Fatal("drained before the last has left")
		default:
		}
		r.mustMove(all[i], "node-2")
	}
	if took := time.Since(start); took < window/2 {
		t.Errorf("all were asked within %v", took)
	}
	select {
	case <-r.node.Drained():
	case <-time.After(10 * time.Second):
		t.Fatal("not drained")
	}
	r.node.Drain(DrainPlan{}) // again, and too late to cancel
	r.node.Undrain()
	if state := r.node.State(); state != proto.StateDraining {
		t.Errorf("state %v", state)
	}
}

// A session that the application holds is not asked, and stays until the deadline.
// Then its connection is closed, and it resumes on another node.
func TestDrainHeld(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	c.send(text("a"))
	c.message()
	r.node.session(claims.Session).Hold()
	r.node.Drain(DrainPlan{Window: time.Millisecond, Timeout: 500 * time.Millisecond})
	eventually(t, func() error {
		if d := r.node.Draining(); d.Held != 1 {
			return fmt.Errorf("%+v", d)
		}
		return nil
	})
	c.send(text("b")) // the session continues
	if m := c.message(); string(m.Data) != "b" {
		t.Errorf("got %q", m.Data)
	}
	// A broken connection does not make it leave either.
	c.ws.CloseNow()
	c2 := r.attach(claims, resumeQuery(c.welcome.Stream, 2))
	if !c2.welcome.Resumed {
		t.Fatalf("%+v", c2.welcome)
	}
	if code := c2.closed(); code != int(proto.CloseGoingAway) {
		t.Errorf("closed with %d", code)
	}
	<-r.node.Drained()
	if d := r.node.Draining(); d.Cut != 1 || d.Remaining != 0 {
		t.Errorf("%+v", d)
	}
	r2 := r.startNext("node-2", Echo{}, &claims)
	if c := r2.attach(claims, resumeQuery(c.welcome.Stream, 2)); !c.welcome.Resumed {
		t.Errorf("%+v", c.welcome)
	}
}

// A session that is released is asked at once.
func TestDrainReleased(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	s := r.node.session(claims.Session)
	s.Hold()
	r.node.Drain(DrainPlan{Window: time.Millisecond})
	eventually(t, func() error {
		if r.node.Draining().Held != 1 {
			return errors.New("not held")
		}
		return nil
	})
	s.Release()
	c.goaway()
}

// After a canceled drain the node works as before.
func TestUndrain(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	r.node.Drain(DrainPlan{Window: time.Millisecond, Timeout: 300 * time.Millisecond})
	c.goaway()
	r.node.Undrain()
	if d, state := r.node.Draining(), r.node.State(); d != nil || state != proto.StateReady {
		t.Errorf("%+v, %v", d, state)
	}
	r.attach(r.login("bob"), "")
	time.Sleep(400 * time.Millisecond) // past the deadline of the canceled drain
	c.send(text("a"))
	if m := c.message(); string(m.Data) != "a" {
		t.Errorf("got %q", m.Data)
	}
	r.drainAll(DrainPlan{Window: time.Millisecond, Timeout: time.Millisecond, Keep: true})
	r.node.Undrain() // also cancels a drain that has ended
	r.attach(r.login("eve"), "")
	select {
	case <-r.node.Drained():
		t.Error("a drain with Keep ended the node")
	default:
	}
}

// A rebalance asks the longest idle sessions first, no more than the order requires,
// and records in the store that they are leaving.
func TestShed(t *testing.T) {
	const many, target = 10, 7
	r := newRig(t, Echo{}, func(c *Config) { c.ShedRate = 1000 })
	asked := make(chan string, many)
	for i := range many {
		user := fmt.Sprint("user-", i)
		claims := r.login(user)
		c := r.attach(claims, "")
		s := r.node.session(claims.Session)
		s.mu.Lock()
		s.used = instant(1000 - i)
		s.update(time.Now()) // in use, a session never becomes older than recorded
		s.mu.Unlock()
		if i == many-1 {
			s.Hold()
		}
		go func() {
			for {
				_, b, err := c.read()
				if err != nil {
					return
				}
				if ctl, err := proto.ParseControl(b); err == nil && ctl.Type == proto.TypeGoAway {
					asked <- user + " " + ctl.GoAway.Reason
				}
			}
		}()
	}
	for range 3 { // orders are repeated
		r.node.shedTo(target)
		time.Sleep(100 * time.Millisecond)
	}
	got := map[string]bool{}
	for len(asked) > 0 {
		got[<-asked] = true
	}
	if len(got) != 3 || !got["user-8 rebalance"] || !got["user-7 rebalance"] || !got["user-6 rebalance"] {
		t.Errorf("asked %v", got)
	}
	leaving := 0
	for _, s := range r.node.all() {
		rec, err := r.store.Get(t.Context(), s.ID)
		if err != nil {
			t.Fatal(err)
		}
		if rec.Leaving {
			leaving++
			r.mustMove(proto.Claims{Session: s.ID, Epoch: 1}, "node-2")
		}
	}
	if leaving != 3 {
		t.Errorf("%d are written down as leaving", leaving)
	}
	r.node.shedTo(target)
	time.Sleep(100 * time.Millisecond)
	if len(asked) > 0 {
		t.Errorf("asked %q with no more to shed", <-asked)
	}
}

// A client that ignores the goaway of a rebalance is closed with 4200, and its
// session resumes on the next node with its stream.
func TestShedIgnored(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	r.node.shedTo(0)
	c.goaway()
	s := r.node.session(claims.Session)
	s.setLeaving(at(time.Now()))
	if code := c.closed(); code != int(proto.CloseGoingAway) {
		t.Fatalf("closed with %d", code)
	}
	rec, err := r.store.Get(t.Context(), claims.Session)
	if err != nil || !rec.Leaving || rec.State == session.Ended {
		t.Fatalf("%+v, %v", rec, err)
	}
	next := r.mustMove(claims, "node-2")
	r2 := r.startNext("node-2", Echo{}, nil)
	if c := r2.attach(next, resumeQuery(c.welcome.Stream, 0)); !c.welcome.Resumed {
		t.Errorf("%+v", c.welcome)
	}
}

// stuckApp is a countingApp in which one callback does not return, for users whose
// name begins with "stuck", until release is called.
type stuckApp struct {
	*countingApp
	in       string // name of the callback
	released chan struct{}
	release  func()
}

func newStuckApp(in string) *stuckApp {
	a := &stuckApp{countingApp: newCountingApp(), in: in, released: make(chan struct{})}
	a.release = sync.OnceFunc(func() { close(a.released) })
	return a
}

func (a *stuckApp) enter(s *Session, callback string) {
	if callback == a.in && strings.HasPrefix(s.User, "stuck") {
		a.note(s, "stuck")
		<-a.released
	}
}

func (a *stuckApp) Opened(s *Session) {
	a.countingApp.Opened(s)
	a.enter(s, "Opened")
}

func (a *stuckApp) Message(s *Session, m Message) {
	a.enter(s, "Message")
	a.countingApp.Message(s, m)
}

func (a *stuckApp) Detached(s *Session) {
	a.enter(s, "Detached")
	a.countingApp.Detached(s)
}

func (a *stuckApp) Snapshot(s *Session) ([]byte, error) {
	a.enter(s, "Snapshot")
	return a.countingApp.Snapshot(s)
}

// stuckRig returns a node with as many sessions in whose callback the application is
// stuck, or will be once they are persisted, and the claims and the stream of the
// first.
func stuckRig(t *testing.T, in string, many int) (r *rig, app *stuckApp, claims proto.Claims, stream string) {
	t.Helper()
	app = newStuckApp(in)
	r = newRig(t, app, nil)
	t.Cleanup(app.release) // before the rig is shut down
	for i := range many {
		user := fmt.Sprint("stuck-", i)
		cl := r.login(user)
		c := r.attach(cl, "")
		if i == 0 {
			claims, stream = cl, c.welcome.Stream
		}
		if in != "Opened" {
			c.send(text("a"))
		}
		if in == "Detached" || in == "Snapshot" {
			c.message()
			c.ws.CloseNow()
			s := r.node.session(cl.Session)
			eventually(t, func() error {
				if !s.owns(nil) {
					return errors.New("still attached")
				}
				return nil
			})
		}
		if in == "Opened" || in == "Message" {
			go c.closed() // answers the close frame
		}
		if in != "Snapshot" {
			eventually(t, func() error {
				if calls := app.of(user); len(calls) == 0 || calls[len(calls)-1] != "stuck" {
					return fmt.Errorf("calls %q", calls)
				}
				return nil
			})
		}
	}
	return r, app, claims, stream
}

var stuckCallbacks = map[string]int{ // how many sessions are stuck; in two cases more than are persisted at a time
	"Opened": 1, "Message": 1, "Detached": persistConcurrency + 6, "Snapshot": persistConcurrency + 6,
}

// A callback that does not return holds up its own session only. The drain asks the
// other clients and ends soon after its deadline. The stream of the stuck session is
// persisted when the callback returns, also during Shutdown.
func TestDrainStuck(t *testing.T) {
	for in, many := range stuckCallbacks {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			const healthy, timeout = 5, 4 * time.Second
			r, app, claims, stream := stuckRig(t, in, many)
			var all []proto.Claims
			var clients []*client
			for i := range healthy {
				cl := r.login(fmt.Sprint("user-", i))
				all, clients = append(all, cl), append(clients, r.attach(cl, ""))
			}
			start := time.Now()
			if err := r.node.Drain(DrainPlan{Window: 300 * time.Millisecond, Timeout: timeout}); err != nil {
				t.Fatal(err)
			}
			for i, c := range clients {
				c.goaway()
				r.mustMove(all[i], "node-2")
				c.ws.CloseNow()
			}
			if isClosed(r.node.Drained()) {
				t.Errorf("the other clients left after the drain had ended")
			}
			select {
			case <-r.node.Drained():
			case <-time.After(3 * (timeout + drainGrace)):
				t.Fatal("not drained")
			}
			if took := time.Since(start); took < timeout {
				t.Errorf("drained after %v, before the deadline", took)
			}
			if d := r.node.Draining(); d.Remaining != uint32(many) {
				t.Errorf("%+v", d)
			}
			for i := range many {
				if line := fmt.Sprintf("user=stuck-%d waited=", i); !strings.Contains(r.log.String(), line) {
					t.Errorf("the log does not contain %q", line)
				}
			}

			time.AfterFunc(200*time.Millisecond, app.release)
			if err := r.node.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			r2 := r.startNext("node-2", newCountingApp(), &claims)
			c := r2.attach(claims, resumeQuery(stream, 0))
			if !c.welcome.Resumed {
				t.Fatalf("welcome %+v", c.welcome)
			}
			if in != "Opened" {
				if m := c.message(); string(m.Data) != "a 1" {
					t.Errorf("got %q", m.Data)
				}
			}
		})
	}
}

// Shutdown returns when its context ends, also while a callback does not return. It
// has persisted the other sessions by then.
func TestShutdownStuck(t *testing.T) {
	for in, many := range stuckCallbacks {
		t.Run(in, func(t *testing.T) {
			r, app, _, _ := stuckRig(t, in, many)
			claims := r.login("ada")
			c := r.attach(claims, "")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			if err := r.node.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Shutdown returned %v", err)
			}
			t.Logf("Shutdown took %v", time.Since(start))
			for result, want := range map[string]int{"ok": 1, "failed": 0, "busy": many} {
				if got := testutil.ToFloat64(r.node.metrics.persisted.WithLabelValues(result)); got != float64(want) {
					t.Errorf("%v sessions are counted as %s, want %d", got, result, want)
				}
			}
			if code := c.closed(); code != int(proto.CloseGoingAway) {
				t.Errorf("closed with %d", code)
			}
			app.release()
			r2 := r.startNext("node-2", newCountingApp(), &claims)
			if c := r2.attach(claims, resumeQuery(c.welcome.Stream, 0)); !c.welcome.Resumed {
				t.Errorf("welcome %+v", c.welcome)
			}
		})
	}
}

// A session whose callback returns after the drain was canceled stays.
func TestUndrainStuck(t *testing.T) {
	r, app, claims, stream := stuckRig(t, "Detached", 1)
	r.node.Drain(DrainPlan{Window: time.Millisecond, Timeout: time.Minute})
	eventually(t, func() error {
		r.node.mu.RLock()
		defer r.node.mu.RUnlock()
		if len(r.node.persisting) != 1 {
			return errors.New("not being persisted")
		}
		return nil
	})
	r.node.Undrain()
	app.release()
	eventually(t, func() error {
		r.node.mu.RLock()
		defer r.node.mu.RUnlock()
		if len(r.node.persisting) != 0 {
			return errors.New("still being persisted")
		}
		return nil
	})
	if c := r.attach(claims, resumeQuery(stream, 1)); !c.welcome.Resumed {
		t.Errorf("welcome %+v", c.welcome)
	}
}
