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

// The App is not notified at all of a session that ends before Opened: no Closed
// would follow.
func TestEndsBeforeOpened(t *testing.T) {
	j := newCallRecorder()
	r := newRig(t, j, nil)
	claims := r.login("ada")
	s, err := r.node.addSession(session.Record{ID: claims.Session, User: "ada", Epoch: claims.Epoch}, claims, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.node.end(s, proto.CloseKicked, "", false)
	(&conn{session: s}).notifyAttached(false)
	r.attach(r.login("bob"), "")
	j.await(t, "bob", "opened")
	if calls := j.of("ada"); len(calls) != 0 {
		t.Errorf("the application got the calls %q", calls)
	}
}

// No call follows Closed, in whatever order the connection, its end and the session's
// end call the App. A lost stream is reported before Closed.
func TestClosedIsLast(t *testing.T) {
	j := newCallRecorder()
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

		s.callbackLock.Lock() // further calls wait for one another
		reset := i%2 == 0
		if reset {
			r.attach(claims, "") // names no stream
		} else {
			c.ws.CloseNow()
			for !s.owns(nil) { // no sleep: the session must end right after it
				runtime.Gosched()
			}
		}
		r.node.end(s, proto.CloseKicked, "", false)
		time.Sleep(time.Millisecond)
		s.unlockCallbacks()

		var calls []string
		eventually(t, func() error {
			if calls = j.of(user); !slices.Contains(calls, "closed kicked") {
				return errors.New("the application was not notified of the end")
			}
			return nil
		})
		time.Sleep(2 * time.Millisecond) // time for a call that must not follow
		calls = j.of(user)
		if calls[len(calls)-1] != "closed kicked" || reset && !slices.Contains(calls, "reset  1") {
			t.Errorf("the application got the calls %q", calls)
		}
	}
}

// The App is notified that a client is back whose stream overflowed while it was
// detached, even on the next node: until then the App could not send.
func TestBackAfterOverflow(t *testing.T) {
	app := newCountingApp()
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

	next := newCountingApp()
	c = r.startNext("node-2", next, &claims).attach(claims, resumeQuery(c.welcome.Stream, 0))
	if c.welcome.Resumed || c.welcome.Reason != proto.ResetOverflow {
		t.Errorf("welcome %+v", c.welcome)
	}
	next.await(t, "ada", "opened", "restore 0", "reset overflow 0")
	c.send(text("new stream"))
	if m := c.message(); string(m.Data) != "new stream 1" {
		t.Errorf("got %q", m.Data)
	}
}
