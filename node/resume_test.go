package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

func resumeQuery(stream string, received uint64) string {
	return fmt.Sprintf("stream=%s&received=%d", stream, received)
}

// A resume in both directions: the node sends what the client has not received, the
// client learns what the node has not received, and both applications get every
// message once.
func TestResume(t *testing.T) {
	j := newCallRecorder()
	r := newRig(t, j, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	j.await(t, "ada", "opened")
	c.send(text("1"))
	c.send(text("2"))
	j.await(t, "ada", "opened", "message 1", "message 2")
	s := j.session(t, "ada")
	for i := range 5 {
		if err := s.Send(text("out %d", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		if m := c.message(); string(m.Data) != fmt.Sprintf("out %d", i+1) || !m.Text {
			t.Fatalf("got %q", m.Data)
		}
	}
	c.ws.CloseNow()
	j.await(t, "ada", "opened", "message 1", "message 2", "detached")
	if err := s.Send(text("out 6")); err != nil {
		t.Fatal(err)
	}

	c = r.attach(claims, resumeQuery(c.welcome.Stream, 3))
	if !c.welcome.Resumed || c.welcome.Received != 2 || c.welcome.Reason != "" {
		t.Fatalf("welcome %+v", c.welcome)
	}
	for i := 3; i < 6; i++ {
		if m := c.message(); string(m.Data) != fmt.Sprintf("out %d", i+1) {
			t.Fatalf("got %q, want out %d", m.Data, i+1)
		}
	}
	j.await(t, "ada", "opened", "message 1", "message 2", "detached", "resumed")
}

// Repeated resumes with nothing sent change nothing.
func TestIdleCuts(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	for range 5 {
		stream := c.welcome.Stream
		c.ws.CloseNow()
		c = r.attach(claims, resumeQuery(stream, 0))
		if !c.welcome.Resumed || c.welcome.Stream != stream || c.welcome.Received != 0 {
			t.Fatalf("welcome %+v", c.welcome)
		}
	}
	c.send(text("still here"))
	if m := c.message(); string(m.Data) != "still here" {
		t.Fatalf("got %q", m.Data)
	}
	if _, live, _ := r.node.Load(); live != 1 {
		t.Errorf("%d sessions, want 1", live)
	}
}

// A new connection takes the session from one that is still open. The old one is
// closed with a code, and its messages no longer count.
func TestTakeOver(t *testing.T) {
	j := newCallRecorder()
	r := newRig(t, j, nil)
	claims := r.login("ada")
	old := r.attach(claims, "")
	old.send(text("1"))
	j.await(t, "ada", "opened", "message 1")
	c := r.attach(claims, resumeQuery(old.welcome.Stream, 0))
	if !c.welcome.Resumed || c.welcome.Received != 1 {
		t.Fatalf("welcome %+v", c.welcome)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_ = old.ws.Write(ctx, websocket.MessageBinary, proto.AppendMessage(nil, text("late")))
	if got := old.closed(); got != int(proto.CloseReplaced) {
		t.Errorf("old connection closed with %d, want 4003", got)
	}
	c.send(text("2"))
	j.await(t, "ada", "opened", "message 1", "detached", "resumed", "message 2")
	if _, _, attached := r.node.Load(); attached != 1 {
		t.Errorf("%d attached, want 1", attached)
	}
}

// A delayed handshake does not take the session from the connection that its client
// opened later.
func TestDelayedAttempt(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	first := r.attach(claims, "attempt=1")
	q := resumeQuery(first.welcome.Stream, 0)
	third := r.attach(claims, q+"&attempt=3")
	if got := r.dial(claims, q+"&attempt=2").closed(); got != int(proto.CloseReplaced) {
		t.Errorf("late handshake closed with %d, want 4003", got)
	}
	third.send(text("mine"))
	if m := third.message(); string(m.Data) != "mine" {
		t.Errorf("got %q", m.Data)
	}
}

// Concurrent attaches leave one connection, and it works.
func TestAttachesAtOnce(t *testing.T) {
	j := newCallRecorder()
	j.on = func(s *Session, m Message) { _ = s.Send(m) }
	r := newRig(t, j, nil)
	for round := range 20 {
		user := fmt.Sprintf("user-%d", round)
		claims := r.login(user)
		conns := make([]*client, 4)
		var wg sync.WaitGroup
		for i := range conns {
			wg.Go(func() { conns[i] = r.dial(claims, "") })
		}
		wg.Wait()
		alive := 0
		for _, c := range conns {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_ = c.ws.Write(ctx, websocket.MessageBinary, proto.AppendMessage(nil, text("x")))
			for {
				typ, _, err := c.ws.Read(ctx)
				if err != nil {
					break
				}
				if typ == websocket.MessageBinary {
					alive++
					break
				}
			}
			cancel()
		}
		if alive != 1 {
			t.Fatalf("round %d: %d connections work, want 1", round, alive)
		}
	}
}

func TestResets(t *testing.T) {
	j := newCallRecorder()
	r := newRig(t, j, func(c *Config) { c.Limits = Limits{UnackedMessages: 4} })

	t.Run("unknown stream", func(t *testing.T) {
		claims := r.login("unknown")
		c := r.attach(claims, resumeQuery("never-was", 7))
		if c.welcome.Resumed || c.welcome.Reason != proto.ResetUnknown || c.welcome.Received != 0 {
			t.Errorf("welcome %+v", c.welcome)
		}
		j.await(t, "unknown", "opened")
	})
	t.Run("token only", func(t *testing.T) {
		claims := r.login("token-only")
		r.attach(claims, "")
		j.await(t, "token-only", "opened")
		if err := j.session(t, "token-only").Send(text("never confirmed")); err != nil {
			t.Fatal(err)
		}
		c := r.attach(claims, "")
		if c.welcome.Resumed || c.welcome.Reason != "" {
			t.Errorf("welcome %+v", c.welcome)
		}
		j.await(t, "token-only", "opened", "detached", "reset  1")
	})
	t.Run("overflow", func(t *testing.T) {
		claims := r.login("overflow")
		c := r.attach(claims, "")
		c.ws.CloseNow()
		j.await(t, "overflow", "opened", "detached")
		s := j.session(t, "overflow")
		for range 4 {
			if err := s.Send(text("kept")); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := s.Send(text("too much")); !errors.Is(err, ErrOverflow) {
				t.Fatalf("got %v, want ErrOverflow", err)
			}
		}
		j.await(t, "overflow", "opened", "detached", "reset overflow 4 away")
		c = r.attach(claims, resumeQuery(c.welcome.Stream, 0))
		if c.welcome.Resumed || c.welcome.Reason != proto.ResetOverflow {
			t.Errorf("welcome %+v", c.welcome)
		}
		j.await(t, "overflow", "opened", "detached", "reset overflow 4 away", "reset overflow 0")
		if err := s.Send(text("new stream")); err != nil {
			t.Fatal(err)
		}
		if m := c.message(); string(m.Data) != "new stream" {
			t.Errorf("got %q", m.Data)
		}
	})
	t.Run("node lost", func(t *testing.T) {
		claims := r.login("lost")
		lease := session.Lease{ID: claims.Session, Node: "node-1", Epoch: 1}
		if _, err := r.store.Attach(t.Context(), lease, "of-the-dead", true, 0, time.Minute); err != nil {
			t.Fatal(err)
		}
		c := r.attach(claims, resumeQuery("of-the-dead", 5))
		if c.welcome.Resumed || c.welcome.Reason != proto.ResetNodeLost {
			t.Errorf("welcome %+v", c.welcome)
		}
		j.await(t, "lost", "opened", "reset node_lost 0")
	})
}

// Impossible counts close the connection; the session continues.
func TestHostileCounts(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	c.send(text("one"))
	c.message()
	stream := c.welcome.Stream
	for name, hostile := range map[string]func(c *client){
		"ack of the future": func(c *client) { c.sendControl(proto.Control{Type: proto.TypeAck, Received: 2}) },
		"negative ack":      func(c *client) { c.write(websocket.MessageText, []byte(`{"type":"ack","received":-1}`)) },
		"huge ack":          func(c *client) { c.write(websocket.MessageText, []byte(`{"type":"ack","received":1e300}`)) },
		"ack of a fraction": func(c *client) { c.write(websocket.MessageText, []byte(`{"type":"ack","received":0.5}`)) },
	} {
		t.Run(name, func(t *testing.T) {
			c := r.attach(claims, resumeQuery(stream, 1))
			hostile(c)
			if got := c.closed(); got != int(proto.CloseProtocolError) {
				t.Errorf("closed with %d, want 4000", got)
			}
		})
	}
	c = r.attach(claims, resumeQuery(stream, 1))
	c.sendControl(proto.Control{Type: proto.TypeAck, Received: 1})
	c.sendControl(proto.Control{Type: proto.TypeAck, Received: 0})
	if got := c.closed(); got != int(proto.CloseProtocolError) {
		t.Errorf("an ack that goes back: closed with %d, want 4000", got)
	}
	for _, received := range []uint64{0, 2} {
		c := r.dial(claims, resumeQuery(stream, received))
		if got := c.closed(); got != int(proto.CloseProtocolError) {
			t.Errorf("resume at %d: closed with %d, want 4000", received, got)
		}
	}
	c = r.attach(claims, resumeQuery(stream, 1))
	if !c.welcome.Resumed || c.welcome.Received != 1 {
		t.Errorf("after all that: welcome %+v", c.welcome)
	}
}
