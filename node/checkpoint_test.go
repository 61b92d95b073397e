package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// gateStore blocks each save until it receives from open, and signals entered.
type gateStore struct {
	session.Store
	open    chan struct{}
	entered chan struct{}
}

func (s *gateStore) Save(ctx context.Context, list []session.Saved) []error {
	select {
	case s.entered <- struct{}{}:
	default:
	}
	<-s.open
	return s.Store.Save(ctx, list)
}

// withCheckpoints configures a node with checkpoints.
func withCheckpoints(c *Config) { c.Checkpoint = true }

// Neither output nor an acknowledgement goes out before the session is stored.
func TestCheckpointComesFirst(t *testing.T) {
	gate := &gateStore{open: make(chan struct{}), entered: make(chan struct{}, 1)}
	app := newCountingApp()
	r := newRig(t, app, func(c *Config) {
		withCheckpoints(c)
		gate.Store, c.Store = wholeStore(c), gate
	})
	claims := r.login("ada")
	c := r.dial(claims, "")
	frames := make(chan string, 10)
	go func() {
		for {
			_, b, err := c.read()
			if err != nil {
				return
			}
			frames <- string(b)
		}
	}()
	<-gate.entered // the first checkpoint; the client must not get its welcome before it is stored
	c.send(text("a"))
	app.await(t, "ada", "opened")
	eventually(t, func() error {
		if s := r.node.session(claims.Session); !s.hasHandled(1) {
			return errors.New("not handled")
		}
		return nil
	})
	select {
	case f := <-frames:
		t.Fatalf("%q came before the session was saved", f)
	case <-time.After(2 * ackDelay):
	}
	gate.open <- struct{}{} // the checkpoint that was begun before the message
	if f := <-frames; f[0] != '{' {
		t.Fatalf("%q, want the welcome", f)
	}
	select {
	case f := <-frames:
		t.Fatalf("%q came before the message was saved", f)
	case <-time.After(2 * ackDelay):
	}
	close(gate.open)
	got := map[string]bool{<-frames: true, <-frames: true}
	if !got["\x01a 1"] || !got[`{"type":"ack","received":1}`] {
		t.Errorf("got %v", got)
	}
}

// hasHandled reports whether the application has handled n messages.
func (s *Session) hasHandled(n int) bool {
	s.callbackLock.Lock()
	defer s.unlockCallbacks()
	return *s.Data.(*int) == n
}

// failingSaves refuses the next saves, as a store that does not answer.
type failingSaves struct {
	session.Store
	fail   atomic.Int64  // how many
	failed chan struct{} // gets a value for each
}

func (f *failingSaves) Save(ctx context.Context, list []session.Saved) []error {
	if f.fail.Add(-1) < 0 {
		return f.Store.Save(ctx, list)
	}
	errs := make([]error, len(list))
	for i := range errs {
		errs[i] = session.ErrUnavailable
	}
	f.failed <- struct{}{}
	return errs
}

// A checkpoint that the store did not take is written again, also if a callback runs when
// the keeper tries.
func TestCheckpointFailsDuringCallback(t *testing.T) {
	app := newCountingApp()
	store := &failingSaves{failed: make(chan struct{}, 1)}
	r := newRig(t, app, func(c *Config) {
		withCheckpoints(c)
		store.Store = wholeStore(c)
		c.Store = store
	})
	c := r.attach(r.login("ada"), "")
	s := app.session(t, "ada")
	store.fail.Store(1)
	if err := s.Send(Message{Data: []byte("hello"), Text: true}); err != nil {
		t.Fatal(err)
	}
	<-store.failed
	s.callbackLock.Lock()
	time.Sleep(300 * time.Millisecond) // longer than the keeper waits before it tries again
	s.unlockCallbacks()
	if m := c.message(); string(m.Data) != "hello" {
		t.Errorf("got %q", m.Data)
	}
}

// After a restart of the node in place, or after an overflow, what the session stores
// replaces what was stored before, although its checkpoints are numbered from 1 again.
func TestCheckpointAfterOverflow(t *testing.T) {
	app := newCountingApp()
	r := newRig(t, app, func(c *Config) {
		withCheckpoints(c)
		c.Limits.UnackedMessages = 4
	})
	claims := r.login("ada")
	c := r.attach(claims, "")
	s := app.session(t, "ada")
	for i := range 3 { // some checkpoints
		c.send(text("m%d", i))
		c.message()
	}
	c.ws.CloseNow()
	eventually(t, func() error {
		if !s.owns(nil) {
			return errors.New("the session is still attached")
		}
		return nil
	})
	for s.Send(Message{Data: []byte("x")}) == nil {
	}
	if err := r.node.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	next := newRig(t, newCountingApp(), func(c *Config) {
		withCheckpoints(c)
		c.Store = r.store
	})
	c2 := next.attach(claims, "")
	c2.send(text("after"))
	c2.message()
	_, found, err := r.store.Restore(t.Context(), next.node.leases.Holder(claims.Session, claims.Epoch))
	if err != nil {
		t.Fatal(err)
	}
	var st sessionState
	if err := json.Unmarshal(found.State, &st); err != nil || !st.HasStream || st.Received != 1 {
		t.Errorf("stored: %s, error %v; want the new stream with one message received", found.State, err)
	}
}

// A failing snapshot holds everything back and closes the connection. When snapshots
// work again, the client comes back and nothing is lost.
func TestCheckpointFails(t *testing.T) {
	app := newCountingApp()
	works := app.snapshot
	r := newRig(t, app, withCheckpoints)
	c := r.attach(r.login("ada"), "")
	s := app.session(t, "ada")
	s.callbackLock.Lock()
	app.snapshot = func(int) ([]byte, error) { return nil, errors.New("no") }
	s.unlockCallbacks()
	c.send(text("a"))
	if code := c.closed(); code != int(proto.CloseInternal) {
		t.Fatalf("closed with %d", code)
	}
	s.callbackLock.Lock()
	app.snapshot = works
	s.unlockCallbacks()
	c2 := r.attach(r.claimsOf(s), resumeQuery(c.welcome.Stream, 0))
	if m := c2.message(); string(m.Data) != "a 1" {
		t.Errorf("got %q", m.Data)
	}
}

// claimsOf returns the claims of a token for a session that the node holds.
func (r *rig) claimsOf(s *Session) proto.Claims {
	now := time.Now().Unix()
	return proto.Claims{
		Issuer: "auth-1", Audience: proto.TokenAudience, User: s.User, Session: s.ID, Node: r.node.cfg.ID,
		Epoch: s.lease.Epoch, IssuedAt: now, NotBefore: now, Expires: now + 600, ID: "1",
	}
}

// A session is disconnected, is moved, and its node is killed, in random order. With
// checkpoints no message and no state of the application is lost or duplicated.
func TestCheckpointProperty(t *testing.T) {
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		store := new(crashStore)
		start := func(c *Config) {
			withCheckpoints(c)
			store = &crashStore{Store: wholeStore(c)}
			c.Store = store
		}
		r := newRig(t, newCountingApp(), start)
		claims := r.login(fmt.Sprint("checkpoints-", n))
		c := r.attach(claims, "")
		stream, sent, got := c.welcome.Stream, 0, 0
		read := func() {
			m := c.message()
			if got++; string(m.Data) != fmt.Sprintf("%d %d", got, got) {
				rt.Fatalf("got %q, want %d", m.Data, got)
			}
		}
		for i := range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
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
				c.ws.CloseNow()
				store.crashed.Store(true)
				_ = r.node.Shutdown(context.Background())
				inner := store.Store
				id := "node-" + strconv.Itoa(2+i)
				rec, err := inner.Reassign(context.Background(), session.NewRequest(), session.Record{ID: claims.Session, Epoch: claims.Epoch}, id, time.Minute)
				if err != nil {
					rt.Fatal(err)
				}
				claims.Node, claims.Epoch = id, rec.Epoch
				r = newRig(t, newCountingApp(), func(c *Config) { c.ID, c.Store = id, inner; start(c) })
			case 4:
				id := "node-" + strconv.Itoa(2+i)
				inner := store.Store
				claims = r.mustMove(claims, id)
				r = newRig(t, newCountingApp(), func(c *Config) { c.ID, c.Store = id, inner; start(c) })
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

// Without checkpoints the stream is lost when a node dies, but the last snapshot is
// restored.
func TestLastSnapshot(t *testing.T) {
	store := new(crashStore)
	r := newRig(t, newCountingApp(), func(c *Config) {
		c.SnapshotInterval = time.Nanosecond
		store = &crashStore{Store: wholeStore(c)}
		c.Store = store
	})
	claims := r.login("ada")
	c := r.attach(claims, "")
	c.send(text("a"))
	c.message()
	eventually(t, func() error {
		_, found, err := store.Restore(t.Context(), session.Lease{ID: claims.Session, Node: "node-1", Epoch: 1})
		if err != nil || found.State == nil {
			return fmt.Errorf("%+v, %v", found, err)
		}
		return nil
	})
	store.crashed.Store(true)
	c.ws.CloseNow()
	_ = r.node.Shutdown(t.Context())
	for i, stream := range []string{c.welcome.Stream, ""} { // the client kept its stream, or only its token
		next := newCountingApp()
		id := fmt.Sprint("node-", 2+i)
		rec, err := store.Store.Reassign(t.Context(), session.NewRequest(), session.Record{ID: claims.Session, Epoch: claims.Epoch}, id, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		claims.Node, claims.Epoch = id, rec.Epoch
		inner := store.Store
		r := newRig(t, next, func(c *Config) {
			c.ID, c.SnapshotInterval = id, time.Nanosecond
			store = &crashStore{Store: inner}
			c.Store = store
		})
		query := ""
		if stream != "" {
			query = resumeQuery(stream, 1)
		}
		c := r.attach(claims, query)
		if w := c.welcome; w.Resumed || (stream != "" && w.Reason != proto.ResetNodeLost) {
			t.Errorf("%+v", w)
		}
		next.await(t, "ada", "opened", "restore 1", "reset node_lost 0")
		eventually(t, func() error { // it is stored here too, before a message has come
			_, found, err := store.Restore(t.Context(), r.node.leases.Holder(claims.Session, claims.Epoch))
			if err != nil || found.Seq == 0 {
				return fmt.Errorf("%+v, %v", found, err)
			}
			return nil
		})
		store.crashed.Store(true)
		c.ws.CloseNow()
		_ = r.node.Shutdown(t.Context())
	}
}
