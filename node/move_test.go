package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// requestMove commands the node to move the session, and returns the claims for the
// next node.
func (r *rig) requestMove(claims proto.Claims, to string) (proto.Claims, proto.CommandResult) {
	r.t.Helper()
	result := r.node.Command(context.Background(), "auth-1", proto.Command{
		Op: proto.OpMove, Session: claims.Session, Epoch: claims.Epoch, To: to,
	})
	if result.Result == proto.MoveDone {
		claims.Node, claims.Epoch = to, claims.Epoch+1
	}
	return claims, result
}

// mustMove is requestMove that must succeed.
func (r *rig) mustMove(claims proto.Claims, to string) proto.Claims {
	r.t.Helper()
	next, result := r.requestMove(claims, to)
	if result.Result != proto.MoveDone || !result.Found {
		r.t.Fatalf("%+v", result)
	}
	return next
}

// A session moves with its complete state. The old node is silent afterwards: it
// accepts nothing, answers nothing, and does not close the connection.
func TestMoveCommand(t *testing.T) {
	app, next := newCountingApp(), newCountingApp()
	r := newRig(t, app, nil)
	r2 := r.startNext("node-2", next, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	c.send(text("a"))
	if m := c.message(); string(m.Data) != "a 1" {
		t.Fatalf("got %q", m.Data)
	}
	claims2 := r.mustMove(claims, "node-2")
	app.await(t, "ada", "opened", "closed moved")
	c.send(text("b")) // not counted: the client sends it again to the next node
	c.sendControl(proto.Control{Type: proto.TypePing, ID: 1})
	if _, live, attached := r.node.Load(); live != 0 || attached != 0 {
		t.Errorf("%d sessions, %d attached", live, attached)
	}
	c2 := r2.attach(claims2, resumeQuery(c.welcome.Stream, 0))
	if w := c2.welcome; !w.Resumed || w.Received != 1 || w.Node != "node-2" {
		t.Fatalf("welcome %+v", w)
	}
	if m := c2.message(); string(m.Data) != "a 1" {
		t.Errorf("sent again: %q", m.Data)
	}
	c2.send(text("b"))
	if m := c2.message(); string(m.Data) != "b 2" {
		t.Errorf("got %q", m.Data)
	}
	next.await(t, "ada", "opened", "restore 1", "resumed")
	app.await(t, "ada", "opened", "closed moved")
	c.ws.CloseNow()
	if code := r.dial(claims, resumeQuery(c.welcome.Stream, 0)).closed(); code != int(proto.CloseMoved) {
		t.Errorf("the old token: closed with %d", code)
	}
}

// slowSaves takes a while for each save, so welcomes wait for their checkpoint.
type slowSaves struct{ session.Store }

func (s slowSaves) Save(ctx context.Context, list []session.Saved) []error {
	time.Sleep(700 * time.Millisecond)
	return s.Store.Save(ctx, list)
}

// A client whose welcome was not written when its session moves is closed: it does not
// know that this node was to serve it, and would wait in silence.
func TestMoveBeforeWelcome(t *testing.T) {
	r := newRig(t, newCountingApp(), func(c *Config) {
		withCheckpoints(c)
		c.Store = slowSaves{wholeStore(c)}
	})
	claims := r.login("ada")
	c := r.dial(claims, "")
	r.mustMove(claims, "node-2")
	began := time.Now()
	if code := c.closed(); code != int(proto.CloseMoved) {
		t.Errorf("closed with %d, want %d", code, proto.CloseMoved)
	}
	if took := time.Since(began); took > connDrainTime/2 {
		t.Errorf("closed after %v", took)
	}
}

// Shutdown closes a draining connection that its client has not closed.
func TestMoveCommandThenShutdown(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	r.mustMove(claims, "node-2")
	if code := r.shutdown(c); code != int(proto.CloseMoved) {
		t.Errorf("closed with %d", code)
	}
}

func TestMoveRefused(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	j := newCallRecorder()
	busy := newRig(t, j, func(c *Config) { c.Store = r.store })
	claims := r.login("ada")
	c := r.attach(claims, "")

	wrong := claims
	wrong.Epoch = 7
	if _, got := r.requestMove(wrong, "node-2"); got.Error == "" || !got.Found {
		t.Errorf("another epoch: %+v", got)
	}
	wrong.Session = session.NewID("nobody")
	if _, got := r.requestMove(wrong, "node-2"); got.Found || got.Error != "" {
		t.Errorf("not held: %+v", got)
	}
	r.node.session(claims.Session).Hold()
	if _, got := r.requestMove(claims, "node-2"); got.Result != proto.MoveHeld {
		t.Errorf("held: %+v", got)
	}
	r.node.session(claims.Session).Release()

	release := make(chan struct{})
	j.on = func(*Session, Message) { <-release }
	slow := r.login("bob")
	slow.Node = "node-1"
	c2 := busy.attach(slow, "")
	c2.send(text("x"))
	eventually(t, func() error {
		if len(j.of("bob")) < 2 {
			return errors.New("not in the application yet")
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if got := busy.node.move(ctx, busy.node.session(slow.Session), slow.Epoch, "node-2"); got.Result != proto.MoveBusy {
		t.Errorf("busy: %+v", got)
	}
	close(release)
	for _, c := range []*client{c, c2} { // both continue
		c.send(text("y"))
	}
	if m := c.message(); string(m.Data) != "y" {
		t.Errorf("got %q", m.Data)
	}
}

// A session whose snapshot fails or is too large stays where it is.
func TestMoveWithoutSnapshot(t *testing.T) {
	for name, snapshot := range map[string]func(int) ([]byte, error){
		"error":     func(int) ([]byte, error) { return nil, errors.New("no") },
		"too large": func(int) ([]byte, error) { return make([]byte, MaxSnapshot+1), nil },
		"panic":     func(int) ([]byte, error) { panic("snapshot") },
	} {
		t.Run(name, func(t *testing.T) {
			app := newCountingApp()
			app.snapshot = snapshot
			r := newRig(t, app, nil)
			claims := r.login("ada")
			c := r.attach(claims, "")
			app.await(t, "ada", "opened") // before that the App has no snapshot to give
			if _, got := r.requestMove(claims, "node-2"); got.Error == "" {
				t.Fatalf("%+v", got)
			}
			if name == "panic" { // its connection is closed
				c.closed()
				c = r.attach(claims, resumeQuery(c.welcome.Stream, 0))
			}
			c.send(text("a"))
			if m := c.message(); string(m.Data) != "a 1" {
				t.Errorf("got %q", m.Data)
			}
		})
	}
}

// lossyStore loses the answers to moves, which it applies or not.
type lossyStore struct {
	session.Store
	lose  chan struct{} // one value for each answer to lose
	apply bool          // whether the move is applied
}

func (s *lossyStore) Move(ctx context.Context, request string, v session.Saved, to string) (session.Record, error) {
	select {
	case <-s.lose:
		if s.apply {
			_, _ = s.Store.Move(ctx, request, v, to)
		}
		return session.Record{}, fmt.Errorf("%w: lost", session.ErrUnavailable)
	default:
		return s.Store.Move(ctx, request, v, to)
	}
}

// If the store does not answer, the session is silent until the store has answered
// whether it moved.
func TestMoveUndecided(t *testing.T) {
	for _, applied := range []bool{true, false} {
		t.Run(fmt.Sprint("carried out ", applied), func(t *testing.T) {
			lossy := &lossyStore{lose: make(chan struct{}, 2), apply: applied}
			lossy.lose <- struct{}{}
			lossy.lose <- struct{}{}
			app := newCountingApp()
			r := newRig(t, app, func(c *Config) { lossy.Store, c.Store = wholeStore(c), lossy })
			claims := r.login("ada")
			c := r.attach(claims, "")
			app.await(t, "ada", "opened")
			s := r.node.session(claims.Session)
			if _, got := r.requestMove(claims, "node-2"); got.Result != proto.MoveBusy {
				t.Fatalf("%+v", got)
			}
			if err := s.Send(text("late")); !errors.Is(err, ErrMoving) {
				t.Errorf("send: %v", err)
			}
			c.send(text("a"))
			if got := app.of("ada"); len(got) != 1 { // countingApp records no messages, but would answer
				t.Errorf("the application saw %q", got)
			}
			// The third answer arrives: the session has moved.
			app.await(t, "ada", "opened", "closed moved")
			if rec, err := r.store.Get(t.Context(), claims.Session); err != nil || rec.Node != "node-2" || rec.Epoch != 2 {
				t.Errorf("%+v, %v", rec, err)
			}
		})
	}
}

// A node that is shut down before the store has answered whether a session moved
// delivers nothing more of that session, which may belong to another node.
func TestMoveUndecidedAtShutdown(t *testing.T) {
	for _, answers := range []bool{true, false} {
		t.Run(fmt.Sprint("the store answers ", answers), func(t *testing.T) {
			lossy := &lossyStore{lose: make(chan struct{}, 2)}
			lossy.lose <- struct{}{}
			if !answers {
				lossy.lose <- struct{}{}
			}
			app := newCallRecorder()
			r := newRig(t, app, func(c *Config) { lossy.Store, c.Store = wholeStore(c), lossy })
			claims := r.login("ada")
			c := r.attach(claims, "")
			app.await(t, "ada", "opened")
			if _, got := r.requestMove(claims, "node-2"); got.Result != proto.MoveBusy {
				t.Fatalf("%+v", got)
			}
			c.send(text("late"))
			time.Sleep(100 * time.Millisecond) // the message waits for the callback lock
			want, code := []string{"opened", "closed going_away"}, proto.CloseGoingAway
			if answers {
				want, code = []string{"opened", "closed moved"}, proto.CloseMoved
			}
			if got := r.shutdown(c); got != int(code) {
				t.Errorf("closed with %d", got)
			}
			app.await(t, "ada", want...)
		})
	}
}

// If a session is moved and reassigned at the same time, one of the two succeeds, and
// a node that lost the session ends it.
func TestMoveTooLate(t *testing.T) {
	app := newCountingApp()
	r := newRig(t, app, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	if _, err := r.store.Reassign(t.Context(), "r", session.Record{ID: claims.Session, Epoch: 1}, "node-3", time.Minute); err != nil {
		t.Fatal(err)
	}
	r.requestMove(claims, "node-2")
	if code := c.closed(); code != int(proto.CloseMoved) {
		t.Errorf("closed with %d", code)
	}
	rec, err := r.store.Get(t.Context(), claims.Session)
	if err != nil || rec.Node != "node-3" || rec.Epoch != 2 {
		t.Errorf("%+v, %v", rec, err)
	}
}

// A drain waits until the client of a session that has moved has closed its old
// connection, because it may not have attached to the next node yet.
func TestDrainWaitsForMovedClients(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	if err := r.node.Drain(DrainPlan{Window: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, got := r.requestMove(claims, "node-2"); got.Result != proto.MoveDone {
		t.Fatalf("%+v", got)
	}
	select {
	case <-r.node.Drained():
		t.Error("drained under a client that has moved")
	case <-time.After(drainGrace / 4):
	}
	c.ws.CloseNow()
	began := time.Now()
	select {
	case <-r.node.Drained():
	case <-time.After(20 * time.Second):
		t.Fatal("not drained")
	}
	if took := time.Since(began); took > 3*drainGrace {
		t.Errorf("drained %v after the client had closed its connection", took)
	}
}

// A client that does not close its old connection does not hold up a drain for long.
func TestDrainDoesNotWaitForever(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	r.attach(claims, "")
	if err := r.node.Drain(DrainPlan{Window: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, got := r.requestMove(claims, "node-2"); got.Result != proto.MoveDone {
		t.Fatalf("%+v", got)
	}
	began := time.Now()
	select {
	case <-r.node.Drained():
	case <-time.After(20 * time.Second):
		t.Fatal("not drained")
	}
	if took := time.Since(began); took > connDrainTime {
		t.Errorf("drained after %v", took)
	}
}
