package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// tally is an application that counts the messages of a session, and takes the
// count along.
type tally struct {
	*journal
	snapshot func(n int) ([]byte, error)
}

func newTally() *tally {
	return &tally{journal: newJournal(), snapshot: func(n int) ([]byte, error) { return strconv.AppendInt(nil, int64(n), 10), nil }}
}

func (a *tally) Opened(s *Session) {
	s.Data = new(int)
	a.journal.Opened(s)
}

func (a *tally) Message(s *Session, m Message) {
	*s.Data.(*int)++
	if err := s.Send(text("%s %d", m.Data, *s.Data.(*int))); err != nil {
		a.note(s, "send %v", err)
	}
}

func (a *tally) Snapshot(s *Session) ([]byte, error) { return a.snapshot(*s.Data.(*int)) }

func (a *tally) Restore(s *Session, b []byte) (err error) {
	a.note(s, "restore %s", b)
	*s.Data.(*int), err = strconv.Atoi(string(b))
	return err
}

// stop shuts the node down while the client reads on, and returns the code it
// is told. What it reads is not taken in.
func (r *rig) stop(c *client) int {
	r.t.Helper()
	code := make(chan int)
	go func() { code <- c.closed() }()
	if err := r.node.Shutdown(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	return <-code
}

// moveTo starts a node of that id with the store of r, and gives it the session
// of the claims.
func (r *rig) moveTo(id string, app App, claims *proto.Claims) *rig {
	r.t.Helper()
	next := newRig(r.t, app, func(c *Config) { c.ID, c.Store = id, r.store })
	if claims != nil && id != claims.Node {
		rec, err := r.store.Reassign(context.Background(), session.NewRequest(), session.Record{ID: claims.Session, Epoch: claims.Epoch}, id, time.Minute)
		if err != nil {
			r.t.Fatal(err)
		}
		claims.Node, claims.Epoch = id, rec.Epoch
	}
	return next
}

// A node that is stopped in order leaves nothing behind: the session resumes at
// knew.
func TestMove(t *testing.T) {
	for _, to := range []string{"node-2", "node-1"} { // another, or its own next start
		t.Run(to, func(t *testing.T) {
			app := newTally()
			r := newRig(t, app, nil)
			claims := r.login("ada")
			c := r.attach(claims, "")
			c.send(text("a"))
			c.send(text("b"))
			for _, want := range []string{"a 1", "b 2"} {
				if m := c.message(); string(m.Data) != want {
					t.Fatalf("got %q", m.Data)
				}
			}
			if code := r.stop(c); code != int(proto.CloseGoingAway) {
				t.Errorf("closed with %d", code)
			}
			if err := app.session(t, "ada").Send(text("late")); !errors.Is(err, ErrClosed) {
				t.Errorf("send after it left: %v", err)
			}
			next := newTally()
			r2 := r.moveTo(to, next, &claims)
			c2 := r2.attach(claims, resumeQuery(c.welcome.Stream, 1))
			if w := c2.welcome; !w.Resumed || w.Received != 2 || w.Stream != c.welcome.Stream || w.Node != to {
				t.Fatalf("welcome %+v", w)
			}
			if m := c2.message(); string(m.Data) != "b 2" {
				t.Errorf("sent again: %q", m.Data)
			}
			c2.send(text("c"))
			if m := c2.message(); string(m.Data) != "c 3" {
				t.Errorf("got %q, want c 3", m.Data)
			}
			app.await(t, "ada", "opened", "closed going_away")
			next.await(t, "ada", "opened", "restore 2", "resumed")
		})
	}
}

// What is parked is for one owner: a node that dies with the stream does not
// leave an old one behind.
func TestMoveThenCrash(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	r.stop(c)
	r2 := r.moveTo("node-2", Echo{}, &claims)
	c2 := r2.attach(claims, resumeQuery(c.welcome.Stream, 0))
	if !c2.welcome.Resumed {
		t.Fatalf("%+v", c2.welcome)
	}
	c2.send(text("x"))
	c2.message()
	r3 := r2.moveTo("node-3", Echo{}, &claims) // and node-2 has parked nothing
	c3 := r3.attach(claims, resumeQuery(c.welcome.Stream, 1))
	if c3.welcome.Resumed || c3.welcome.Reason != proto.ResetNodeLost {
		t.Errorf("%+v", c3.welcome)
	}
}

// takeStore is a store at which something happens while a session is claimed, or
// laid down.
type takeStore struct {
	session.Store
	attached func() error // what is made of it, after the step
	saves    func()       // before the step
}

func (s *takeStore) Attach(ctx context.Context, l session.Lease, stream string, take bool, proof uint64, ttl time.Duration) (session.Record, error) {
	rec, err := s.Store.Attach(ctx, l, stream, take, proof, ttl)
	if s.attached != nil {
		err = errors.Join(err, s.attached())
	}
	return rec, err
}

func (s *takeStore) Save(ctx context.Context, list []session.Saved) []error {
	if s.saves != nil {
		s.saves()
	}
	return s.Store.Save(ctx, list)
}

// laidDown returns a node that was stopped in order, after one message of its only
// session.
func laidDown(t *testing.T) (*rig, proto.Claims, *client) {
	t.Helper()
	r := newRig(t, newTally(), nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	c.send(text("a"))
	c.message()
	r.stop(c)
	return r, claims, c
}

// A node that lays a session down takes nothing of that back for a client that
// comes at the same moment: the stream is for the next owner.
func TestLaidDownIsNotTakenBack(t *testing.T) {
	r, claims, c := laidDown(t)
	store := &takeStore{Store: r.store, attached: func() error { return session.ErrUnavailable }}
	r.store = store
	r2 := r.moveTo("node-2", newTally(), &claims)
	if code := r2.dial(claims, resumeQuery(c.welcome.Stream, 0)).closed(); code != int(proto.CloseInternal) {
		t.Fatalf("closed with %d", code)
	}
	store.attached = nil
	saving, release := make(chan struct{}), make(chan struct{})
	store.saves = func() {
		close(saving)
		<-release
	}
	r2.node.Drain(DrainPlan{Window: time.Millisecond, Keep: true})
	<-saving
	time.AfterFunc(100*time.Millisecond, func() { close(release) }) // by then the client waits for the application's turn
	if code := r2.dial(claims, resumeQuery(c.welcome.Stream, 0)).closed(); code != int(proto.CloseGoingAway) {
		t.Errorf("closed with %d", code)
	}
	store.saves = nil

	next := newTally()
	r3 := r2.moveTo("node-3", next, &claims)
	c3 := r3.attach(claims, resumeQuery(c.welcome.Stream, 0))
	if w := c3.welcome; !w.Resumed || w.Received != 1 {
		t.Errorf("welcome %+v", w)
	}
	next.await(t, "ada", "opened", "restore 1", "resumed")
}

// What a node has taken for a client that it then cannot have goes to the next one.
func TestTakenInVain(t *testing.T) {
	r, claims, _ := laidDown(t)
	store := &takeStore{Store: r.store}
	r.store = store
	r2 := r.moveTo("node-2", newTally(), &claims)
	store.attached = func() error {
		r2.node.Drain(DrainPlan{Window: time.Millisecond, Keep: true})
		return nil
	}
	if code := r2.dial(claims, "").closed(); code != int(proto.CloseFull) {
		t.Errorf("closed with %d", code)
	}
	store.attached = nil

	next := newTally()
	r3 := r2.moveTo("node-3", next, &claims)
	r3.attach(claims, "")
	next.await(t, "ada", "opened", "restore 1", "reset  1")
}

// A session that nobody is attached to leaves a draining node at once; its
// client is sent on and resumes.
func TestDrainParksDetachedSessions(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	c.send(text("x"))
	c.message()
	c.ws.CloseNow()
	r.drained(DrainPlan{Window: time.Millisecond, Keep: true})
	if code := r.dial(claims, resumeQuery(c.welcome.Stream, 0)).closed(); code != int(proto.CloseGoingAway) {
		t.Fatalf("closed with %d", code)
	}
	r2 := r.moveTo("node-2", Echo{}, &claims)
	c2 := r2.attach(claims, resumeQuery(c.welcome.Stream, 0))
	if !c2.welcome.Resumed {
		t.Fatalf("%+v", c2.welcome)
	}
	if m := c2.message(); string(m.Data) != "x" {
		t.Errorf("got %q", m.Data)
	}
}

// When the stream cannot be laid down the client is told that it is lost.
func TestMoveFails(t *testing.T) {
	for name, breakIt := range map[string]func(a *tally, s *crashStore){
		"store":    func(_ *tally, s *crashStore) { s.crashed.Store(true) },
		"snapshot": func(a *tally, _ *crashStore) { a.snapshot = func(int) ([]byte, error) { return nil, errors.New("no") } },
		"too large": func(a *tally, _ *crashStore) {
			a.snapshot = func(int) ([]byte, error) { return make([]byte, MaxSnapshot+1), nil }
		},
		"panic": func(a *tally, _ *crashStore) { a.snapshot = func(int) ([]byte, error) { panic("snapshot") } },
	} {
		t.Run(name, func(t *testing.T) {
			app := newTally()
			var store *crashStore
			r := newRig(t, app, func(c *Config) {
				store = &crashStore{Store: c.Store}
				c.Store = store
			})
			claims := r.login("ada")
			c := r.attach(claims, "")
			app.await(t, "ada", "opened") // before that there is nothing to ask it for
			breakIt(app, store)
			r.stop(c)
			c2 := r.moveTo("node-2", newTally(), &claims).attach(claims, resumeQuery(c.welcome.Stream, 0))
			if c2.welcome.Resumed || c2.welcome.Reason != proto.ResetNodeLost {
				t.Errorf("%+v", c2.welcome)
			}
		})
	}
}

// However a session is moved, cut and talked to, nothing is lost or doubled.
func TestMovesProperty(t *testing.T) {
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		r := newRig(t, Echo{}, nil)
		claims := r.login(fmt.Sprint("moves-", n))
		c := r.attach(claims, "")
		stream, sent, got := c.welcome.Stream, 0, 0
		read := func() {
			m := c.message()
			if got++; string(m.Data) != strconv.Itoa(got) {
				rt.Fatalf("got %q, want %d", m.Data, got)
			}
		}
		for i := range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0, 1:
				for range rapid.IntRange(1, 5).Draw(rt, "messages") {
					sent++
					c.send(text("%d", sent))
				}
				for range rapid.IntRange(0, sent-got).Draw(rt, "read") {
					read()
				}
				continue
			case 2:
				c.ws.CloseNow()
			case 3:
				r.stop(c)
				r = r.moveTo(fmt.Sprint("node-", 2+i), Echo{}, &claims)
			}
			c = r.attach(claims, resumeQuery(stream, uint64(got)))
			if !c.welcome.Resumed {
				rt.Fatalf("%+v", c.welcome)
			}
			for k := int(c.welcome.Received) + 1; k <= sent; k++ {
				c.send(text("%d", k))
			}
		}
		for got < sent {
			read()
		}
	})
}

// What was laid down for one session is not taken for another's, whoever put it
// there.
func TestParkedStateOfAnotherSession(t *testing.T) {
	r := newRig(t, newTally(), nil)
	ada, bob := r.login("ada"), r.login("bob")
	c := r.attach(ada, "")
	b := r.attach(bob, "")
	stream := b.welcome.Stream
	c.send(text("secret of ada"))
	c.message()
	b.ws.CloseNow()
	r.stop(c)
	store := r.store
	_, parked, err := store.Restore(t.Context(), session.Lease{ID: ada.Session, Node: "node-1", Epoch: 1})
	if err != nil || parked.State == nil {
		t.Fatalf("%v, %v", parked, err)
	}
	lease := session.Lease{ID: bob.Session, Node: "node-1", Epoch: 1}
	if err := store.Save(t.Context(), []session.Saved{{Lease: lease, Stream: stream, State: parked.State, Seq: 1000, TTL: time.Minute}})[0]; err != nil {
		t.Fatal(err)
	}
	next := newTally()
	r2 := r.moveTo("node-1", next, nil)
	w := r2.attach(bob, resumeQuery(stream, 0)).welcome
	if w.Resumed || w.Reason != proto.ResetNodeLost {
		t.Errorf("welcome %+v", w)
	}
	if strings.Contains(strings.Join(next.of("bob"), " "), "restore") || !strings.Contains(r2.log.String(), "parked session cannot be read") {
		t.Errorf("the application saw %q", next.of("bob"))
	}
}
