package node

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Of a session that ends before the application was told of it, it hears
// nothing: it would never hear of the end.
func TestEndsBeforeOpened(t *testing.T) {
	j := newJournal()
	r := newRig(t, j, nil)
	claims := r.login("ada")
	s, code := r.node.adopt(session.Record{ID: claims.Session, User: "ada", Epoch: claims.Epoch}, claims, nil)
	if code != 0 {
		t.Fatal(code)
	}
	r.node.end(s, proto.CloseKicked, "", false)
	(&conn{session: s}).tellAttached(false)
	r.attach(r.login("bob"), "")
	j.await(t, "bob", "opened")
	if calls := j.of("ada"); len(calls) != 0 {
		t.Errorf("the application heard %q", calls)
	}
}

// Nothing comes after Closed, whoever of the connection, its end and the
// session's end calls the application first; and what is lost it hears before.
func TestClosedIsLast(t *testing.T) {
	j := newJournal()
	r := newRig(t, j, nil)
	for i := range 40 {
		user := fmt.Sprint("ada-", i)
		claims := r.login(user)
		c := r.attach(claims, "")
		s := j.session(t, user)
		if err := s.Send(text("lost")); err != nil {
			t.Fatal(err)
		}
		c.message()

		s.app.Lock() // those who call now wait for one another
		reset := i%2 == 0
		if reset {
			r.attach(claims, "") // names no stream
		} else {
			c.ws.CloseNow()
			for !s.owns(nil) { // no sleep: the end comes just after it
				runtime.Gosched()
			}
		}
		r.node.end(s, proto.CloseKicked, "", false)
		time.Sleep(time.Millisecond)
		s.app.Unlock()

		var heard []string
		eventually(t, func() error {
			if heard = j.of(user); !slices.Contains(heard, "closed kicked") {
				return errors.New("the application was not told of the end")
			}
			return nil
		})
		time.Sleep(2 * time.Millisecond) // for what must not follow
		heard = j.of(user)
		if heard[len(heard)-1] != "closed kicked" || reset && !slices.Contains(heard, "reset  1") {
			t.Errorf("the application heard %q", heard)
		}
	}
}

// A client whose stream overflowed while it was away is announced when it is
// back, by the node that has the session then: the application could send
// nothing until now.
func TestBackAfterOverflow(t *testing.T) {
	app := newTally()
	r := newRig(t, app, func(c *Config) { c.Limits = Limits{UnackedMessages: 1} })
	claims := r.login("ada")
	c := r.attach(claims, "")
	c.ws.CloseNow()
	app.await(t, "ada", "opened", "detached")
	s := app.session(t, "ada")
	for _, want := range []error{nil, ErrOverflow} {
		if err := s.Send(text("kept")); !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
	if err := r.node.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	app.await(t, "ada", "opened", "detached", "reset overflow 1 away", "closed going_away")

	next := newTally()
	c = r.moveTo("node-2", next, &claims).attach(claims, resumeQuery(c.welcome.Stream, 0))
	if c.welcome.Resumed || c.welcome.Reason != proto.ResetOverflow {
		t.Errorf("welcome %+v", c.welcome)
	}
	next.await(t, "ada", "opened", "restore 0", "reset overflow 0")
	c.send(text("anew"))
	if m := c.message(); string(m.Data) != "anew 1" {
		t.Errorf("got %q", m.Data)
	}
}
