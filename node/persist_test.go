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

// countingApp counts the messages of a session, and takes the count to the next node.
type countingApp struct {
	*callRecorder
	snapshot func(n int) ([]byte, error)
}

func newCountingApp() *countingApp {
	return &countingApp{callRecorder: newCallRecorder(), snapshot: func(n int) ([]byte, error) { return strconv.AppendInt(nil, int64(n), 10), nil }}
}

func (a *countingApp) Opened(s *Session) {
	s.Data = new(int)
	a.callRecorder.Opened(s)
}

func (a *countingApp) Message(s *Session, m Message) {
	*s.Data.(*int)++
	if err := s.Send(text("%s %d", m.Data, *s.Data.(*int))); err != nil {
		a.note(s, "send %v", err)
	}
}

func (a *countingApp) Snapshot(s *Session) ([]byte, error) { return a.snapshot(*s.Data.(*int)) }

func (a *countingApp) Restore(s *Session, b []byte) (err error) {
	a.note(s, "restore %s", b)
	*s.Data.(*int), err = strconv.Atoi(string(b))
	return err
}

// shutdown shuts the node down while the client reads and discards, and returns the
// close code that the client gets.
func (r *rig) shutdown(c *client) int {
	r.t.Helper()
	code := make(chan int)
	go func() { code <- c.closed() }()
	if err := r.node.Shutdown(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	return <-code
}

// startNext starts a node with that id and the store of r, and assigns the session of
// the claims to it.
func (r *rig) startNext(id string, app App, claims *proto.Claims) *rig {
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

// After an orderly stop, the session resumes with its stream and the state of its
// application.
func TestShutdownThenResume(t *testing.T) {
	for _, to := range []string{"node-2", "node-1"} { // another node, or the next start of the same node
		t.Run(to, func(t *testing.T) {
			app := newCountingApp()
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
			if code := r.shutdown(c); code != int(proto.CloseGoingAway) {
				t.Errorf("closed with %d", code)
			}
			if err := app.session(t, "ada").Send(text("late")); !errors.Is(err, ErrClosed) {
				t.Errorf("send after it left: %v", err)
			}
			next := newCountingApp()
			r2 := r.startNext(to, next, &claims)
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

// Only one owner gets the stored state: a node that dies with the stream leaves no
// outdated copy behind.
func TestResumeThenCrash(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	r.shutdown(c)
	r2 := r.startNext("node-2", Echo{}, &claims)
	c2 := r2.attach(claims, resumeQuery(c.welcome.Stream, 0))
	if !c2.welcome.Resumed {
		t.Fatalf("%+v", c2.welcome)
	}
	c2.send(text("x"))
	c2.message()
	r3 := r2.startNext("node-3", Echo{}, &claims) // node-2 has persisted nothing
	c3 := r3.attach(claims, resumeQuery(c.welcome.Stream, 1))
	if c3.welcome.Resumed || c3.welcome.Reason != proto.ResetNodeLost {
		t.Errorf("%+v", c3.welcome)
	}
}

// hookStore is a store with hooks in Attach and Save.
type hookStore struct {
	session.Store
	afterAttach func() error // called after the step; its error becomes the result
	beforeSave  func()       // called before the step
}

func (s *hookStore) Attach(ctx context.Context, l session.Lease, stream string, take bool, proof uint64, ttl time.Duration) (session.Record, error) {
	rec, err := s.Store.Attach(ctx, l, stream, take, proof, ttl)
	if s.afterAttach != nil {
		err = errors.Join(err, s.afterAttach())
	}
	return rec, err
}

func (s *hookStore) Save(ctx context.Context, list []session.Saved) []error {
	if s.beforeSave != nil {
		s.beforeSave()
	}
	return s.Store.Save(ctx, list)
}

// persistedSession returns a node that was stopped in order, after one message of its
// only session.
func persistedSession(t *testing.T) (*rig, proto.Claims, *client) {
	t.Helper()
	r := newRig(t, newCountingApp(), nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	c.send(text("a"))
	c.message()
	r.shutdown(c)
	return r, claims, c
}

// A client that attaches while its session is being persisted does not take the state
// back: the stream is for the next owner.
func TestAttachDuringPersist(t *testing.T) {
	r, claims, c := persistedSession(t)
	store := &hookStore{Store: r.store, afterAttach: func() error { return session.ErrUnavailable }}
	r.store = store
	r2 := r.startNext("node-2", newCountingApp(), &claims)
	if code := r2.dial(claims, resumeQuery(c.welcome.Stream, 0)).closed(); code != int(proto.CloseInternal) {
		t.Fatalf("closed with %d", code)
	}
	store.afterAttach = nil
	saving, release := make(chan struct{}), make(chan struct{})
	store.beforeSave = func() {
		close(saving)
		<-release
	}
	r2.node.Drain(DrainPlan{Window: time.Millisecond, Keep: true})
	<-saving
	time.AfterFunc(100*time.Millisecond, func() { close(release) }) // by then the client waits for the callback lock
	if code := r2.dial(claims, resumeQuery(c.welcome.Stream, 0)).closed(); code != int(proto.CloseGoingAway) {
		t.Errorf("closed with %d", code)
	}
	store.beforeSave = nil

	next := newCountingApp()
	r3 := r2.startNext("node-3", next, &claims)
	c3 := r3.attach(claims, resumeQuery(c.welcome.Stream, 0))
	if w := c3.welcome; !w.Resumed || w.Received != 1 {
		t.Errorf("welcome %+v", w)
	}
	next.await(t, "ada", "opened", "restore 1", "resumed")
}

// A node puts the state that it took for a client back if it cannot serve the client,
// and the next node gets it.
func TestStateOfRefusedClientIsPutBack(t *testing.T) {
	r, claims, _ := persistedSession(t)
	store := &hookStore{Store: r.store}
	r.store = store
	r2 := r.startNext("node-2", newCountingApp(), &claims)
	store.afterAttach = func() error {
		r2.node.Drain(DrainPlan{Window: time.Millisecond, Keep: true})
		return nil
	}
	if code := r2.dial(claims, "").closed(); code != int(proto.CloseFull) {
		t.Errorf("closed with %d", code)
	}
	store.afterAttach = nil

	next := newCountingApp()
	r3 := r2.startNext("node-3", next, &claims)
	r3.attach(claims, "")
	next.await(t, "ada", "opened", "restore 1", "reset  1")
}

// A detached session leaves a draining node at once. Its client is sent to another
// node and resumes there.
func TestDrainPersistsDetachedSessions(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	c.send(text("x"))
	c.message()
	c.ws.CloseNow()
	r.drainAll(DrainPlan{Window: time.Millisecond, Keep: true})
	if code := r.dial(claims, resumeQuery(c.welcome.Stream, 0)).closed(); code != int(proto.CloseGoingAway) {
		t.Fatalf("closed with %d", code)
	}
	r2 := r.startNext("node-2", Echo{}, &claims)
	c2 := r2.attach(claims, resumeQuery(c.welcome.Stream, 0))
	if !c2.welcome.Resumed {
		t.Fatalf("%+v", c2.welcome)
	}
	if m := c2.message(); string(m.Data) != "x" {
		t.Errorf("got %q", m.Data)
	}
}

// If the stream cannot be persisted, the client is notified that it is lost.
func TestPersistFails(t *testing.T) {
	for name, breakIt := range map[string]func(a *countingApp, s *crashStore){
		"store": func(_ *countingApp, s *crashStore) { s.crashed.Store(true) },
		"snapshot": func(a *countingApp, _ *crashStore) {
			a.snapshot = func(int) ([]byte, error) { return nil, errors.New("no") }
		},
		"too large": func(a *countingApp, _ *crashStore) {
			a.snapshot = func(int) ([]byte, error) { return make([]byte, MaxSnapshot+1), nil }
		},
		"panic": func(a *countingApp, _ *crashStore) { a.snapshot = func(int) ([]byte, error) { panic("snapshot") } },
	} {
		t.Run(name, func(t *testing.T) {
			app := newCountingApp()
			var store *crashStore
			r := newRig(t, app, func(c *Config) {
				store = &crashStore{Store: wholeStore(c)}
				c.Store = store
			})
			claims := r.login("ada")
			c := r.attach(claims, "")
			app.await(t, "ada", "opened") // before that the App has no snapshot to give
			breakIt(app, store)
			r.shutdown(c)
			c2 := r.startNext("node-2", newCountingApp(), &claims).attach(claims, resumeQuery(c.welcome.Stream, 0))
			if c2.welcome.Resumed || c2.welcome.Reason != proto.ResetNodeLost {
				t.Errorf("%+v", c2.welcome)
			}
		})
	}
}

// A session is moved and disconnected in random order while messages pass. No message
// is lost or duplicated.
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
				r.shutdown(c)
				r = r.startNext(fmt.Sprint("node-", 2+i), Echo{}, &claims)
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

// A state that was stored for one session is not used for another one, wherever it
// comes from.
func TestStoredStateOfAnotherSession(t *testing.T) {
	r := newRig(t, newCountingApp(), nil)
	ada, bob := r.login("ada"), r.login("bob")
	c := r.attach(ada, "")
	b := r.attach(bob, "")
	stream := b.welcome.Stream
	c.send(text("secret of ada"))
	c.message()
	b.ws.CloseNow()
	r.shutdown(c)
	store := r.store
	_, stored, err := store.Restore(t.Context(), session.Lease{ID: ada.Session, Node: "node-1", Epoch: 1})
	if err != nil || stored.State == nil {
		t.Fatalf("%v, %v", stored, err)
	}
	lease := session.Lease{ID: bob.Session, Node: "node-1", Epoch: 1}
	if err := store.Save(t.Context(), []session.Saved{{Lease: lease, Stream: stream, State: stored.State, Seq: 1000, TTL: time.Minute}})[0]; err != nil {
		t.Fatal(err)
	}
	next := newCountingApp()
	r2 := r.startNext("node-1", next, nil)
	w := r2.attach(bob, resumeQuery(stream, 0)).welcome
	if w.Resumed || w.Reason != proto.ResetNodeLost {
		t.Errorf("welcome %+v", w)
	}
	if strings.Contains(strings.Join(next.of("bob"), " "), "restore") || !strings.Contains(r2.log.String(), "stored state of the session cannot be read") {
		t.Errorf("the application saw %q", next.of("bob"))
	}
}
