package node

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// drained has the node drain and waits until it is empty.
func (r *rig) drained(plan DrainPlan) {
	r.t.Helper()
	r.node.Drain(plan)
	r.empty()
}

func (r *rig) empty() {
	r.t.Helper()
	eventually(r.t, func() error {
		if d := r.node.Draining(); d == nil || d.Remaining > 0 {
			return fmt.Errorf("drain: %+v", d)
		}
		return nil
	})
}

// goaway reads until the node asks to leave.
func (c *client) goaway() proto.GoAway {
	c.t.Helper()
	for {
		if ctl := c.control(); ctl.Type == proto.TypeGoAway {
			return ctl.GoAway
		}
	}
}

// A drain asks clients to leave, evenly, and ends when the last is gone.
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
		r.passed(all[i], "node-2")
	}
	if took := time.Since(start); took < window/2 {
		t.Errorf("all were asked within %v", took)
	}
	select {
	case <-r.node.Drained():
	case <-time.After(10 * time.Second):
		t.Fatal("not drained")
	}
	r.node.Drain(DrainPlan{}) // once more, and too late to take back
	r.node.Undrain()
	if state := r.node.State(); state != proto.StateDraining {
		t.Errorf("state %v", state)
	}
}

// A session that the application holds is not asked, and stays until the
// deadline; then it is cut, and resumes elsewhere.
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
	c.send(text("b")) // it goes on
	if m := c.message(); string(m.Data) != "b" {
		t.Errorf("got %q", m.Data)
	}
	// A cut does not send it away either.
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
	r2 := r.moveTo("node-2", Echo{}, &claims)
	if c := r2.attach(claims, resumeQuery(c.welcome.Stream, 2)); !c.welcome.Resumed {
		t.Errorf("%+v", c.welcome)
	}
}

// Released, it is asked at once.
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

// A drain that is taken back leaves a node like any other.
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
	time.Sleep(400 * time.Millisecond) // past what was the deadline
	c.send(text("a"))
	if m := c.message(); string(m.Data) != "a" {
		t.Errorf("got %q", m.Data)
	}
	r.drained(DrainPlan{Window: time.Millisecond, Timeout: time.Millisecond, Keep: true})
	r.node.Undrain() // also of one that is over
	r.attach(r.login("eve"), "")
	select {
	case <-r.node.Drained():
		t.Error("a drain with Keep ended the node")
	default:
	}
}

// Shed asks those first that have been idle longest, no more than the order
// wants, and writes down that they are to go.
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
	for range 3 { // orders repeat
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
			r.passed(proto.Claims{Session: s.ID, Epoch: 1}, "node-2")
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

// A client that was asked for the sake of balance, and does not go, is closed
// with 4200, and its session is the next node's with its stream.
func TestShedIgnored(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	r.node.shedTo(0)
	c.goaway()
	s := r.node.session(claims.Session)
	s.setLeaving(time.Now())
	if code := c.closed(); code != int(proto.CloseGoingAway) {
		t.Fatalf("closed with %d", code)
	}
	rec, err := r.store.Get(t.Context(), claims.Session)
	if err != nil || !rec.Leaving || rec.State == session.Ended {
		t.Fatalf("%+v, %v", rec, err)
	}
	next := r.passed(claims, "node-2")
	r2 := r.moveTo("node-2", Echo{}, nil)
	if c := r2.attach(next, resumeQuery(c.welcome.Stream, 0)); !c.welcome.Resumed {
		t.Errorf("%+v", c.welcome)
	}
}
