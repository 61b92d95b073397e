package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/proto"
)

// Acknowledgements are sent after the application has handled the message: within 0.2
// s, and at once after 32 messages.
func TestAcknowledgements(t *testing.T) {
	j := newCallRecorder()
	hold := make(chan struct{})
	j.on = func(*Session, Message) { <-hold }
	r := newRig(t, j, nil)
	c := r.attach(r.login("ada"), "")
	c.send(text("x"))
	c.sendControl(proto.Control{Type: proto.TypePing, ID: 7})
	close(hold)
	start := time.Now()
	sawPong := false
	for {
		ctl := c.control()
		if ctl.Type == proto.TypePong && ctl.ID == 7 {
			sawPong = true
		}
		if ctl.Type == proto.TypeAck {
			if ctl.Received != 1 {
				t.Errorf("ack %d, want 1", ctl.Received)
			}
			break
		}
	}
	if !sawPong {
		t.Error("ping not answered at once")
	}
	t.Logf("acknowledged after %v", time.Since(start))
	for range 40 {
		c.send(text("y"))
	}
	for got := uint64(1); got < 41; {
		got = c.control().Received
	}
}

func TestBrokenFrames(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	for _, tt := range []struct {
		name string
		typ  websocket.MessageType
		data []byte
		want proto.CloseCode
	}{
		{"no kind", websocket.MessageBinary, nil, proto.CloseProtocolError},
		{"unknown kind", websocket.MessageBinary, []byte{4, 'x'}, proto.CloseProtocolError},
		{"all bits", websocket.MessageBinary, []byte{0xff}, proto.CloseProtocolError},
		{"text that is not UTF-8", websocket.MessageBinary, []byte{1, 0xc3, 0x28}, proto.CloseProtocolError},
		{"no JSON", websocket.MessageText, []byte("hello"), proto.CloseProtocolError},
		{"no object", websocket.MessageText, []byte("[]"), proto.CloseProtocolError},
		{"no type", websocket.MessageText, []byte("{}"), proto.CloseProtocolError},
		{"unknown type", websocket.MessageText, []byte(`{"type":"dance"}`), proto.CloseProtocolError},
		{"a node's control", websocket.MessageText, []byte(`{"type":"goaway","reason":"drain","after_ms":0,"by_ms":1}`), proto.CloseProtocolError},
		{"deep", websocket.MessageText, []byte(`{"type":` + strings.Repeat("[", 2000)), proto.CloseProtocolError},
		{"long control", websocket.MessageText, bytes.Repeat([]byte(" "), 5000), proto.CloseTooLarge},
		{"long message", websocket.MessageBinary, make([]byte, 2+65536), proto.CloseTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			claims := r.login("x")
			c := r.attach(claims, "")
			c.write(tt.typ, tt.data)
			if got := c.closed(); got != int(tt.want) {
				t.Errorf("closed with %d, want %d", got, tt.want)
			}
			again := r.attach(claims, resumeQuery(c.welcome.Stream, 0))
			if !again.welcome.Resumed {
				t.Error("the session did not survive")
			}
		})
	}
	t.Run("largest message", func(t *testing.T) {
		c := r.attach(r.login("x"), "")
		c.send(proto.Message{Data: make([]byte, 65536)})
		if m := c.message(); len(m.Data) != 65536 {
			t.Errorf("got %d bytes back", len(m.Data))
		}
	})
}

func TestSendErrors(t *testing.T) {
	j := newCallRecorder()
	r := newRig(t, j, func(c *Config) { c.Limits = Limits{MessageBytes: 10, UnackedBytes: 25, UnackedMessages: 100} })
	claims := r.login("ada")
	c := r.attach(claims, "")
	j.await(t, "ada", "opened")
	s := j.session(t, "ada")
	send := func(n int) error { return s.Send(Message{Data: make([]byte, n)}) }
	if err := send(11); !errors.Is(err, ErrTooLarge) {
		t.Errorf("11 bytes: %v", err)
	}
	if err := s.Send(Message{Text: true, Data: []byte{0xff}}); !errors.Is(err, proto.ErrInvalidUTF8) {
		t.Errorf("text: %v", err)
	}
	if err := errors.Join(send(10), send(10), send(5)); err != nil {
		t.Errorf("within the bound: %v", err)
	}
	if err := send(1); !errors.Is(err, ErrSlow) {
		t.Errorf("over the bound: %v", err)
	}
	for range 3 {
		c.message()
	}
	c.sendControl(proto.Control{Type: proto.TypeAck, Received: 1})
	eventually(t, func() error { return send(10) })
	if err := s.Close(4000, "no"); !errors.Is(err, ErrCode) {
		t.Errorf("code: %v", err)
	}
	if err := s.Close(4500, "match over"); err != nil {
		t.Fatal(err)
	}
	if err := send(1); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
	// What was sent before the close arrives before it.
	if m := c.message(); len(m.Data) != 10 {
		t.Errorf("got %d bytes", len(m.Data))
	}
	_, _, err := c.read()
	var ce websocket.CloseError
	for !errors.As(err, &ce) && err == nil {
		_, _, err = c.read()
	}
	if ce.Code != 4500 || ce.Reason != "match over" {
		t.Errorf("closed with %d %q", ce.Code, ce.Reason)
	}
	j.await(t, "ada", "opened", "closed ")
	eventually(t, func() error {
		if _, err := r.store.Get(t.Context(), claims.Session); !errors.Is(err, session.ErrEnded) {
			return errors.New("the store does not know that the session has ended")
		}
		return nil
	})
}

func TestVolatile(t *testing.T) {
	j := newCallRecorder()
	r := newRig(t, j, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	j.await(t, "ada", "opened")
	s := j.session(t, "ada")
	for _, m := range []Message{text("1"), {Data: []byte("2"), Volatile: true}, text("3"), {Data: []byte("4"), Volatile: true}} {
		if err := s.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"1", "2", "3", "4"} {
		if m := c.message(); string(m.Data) != want {
			t.Fatalf("got %q, want %q", m.Data, want)
		}
	}
	c.send(Message{Data: []byte("position"), Volatile: true})
	j.await(t, "ada", "opened", "message position")
	c.ws.CloseNow()
	j.await(t, "ada", "opened", "message position", "detached")
	if err := s.Send(Message{Data: []byte("lost"), Volatile: true}); err != nil {
		t.Fatal(err)
	}
	c = r.attach(claims, resumeQuery(c.welcome.Stream, 2))
	if c.welcome.Received != 0 {
		t.Errorf("a volatile message was counted: %+v", c.welcome)
	}
	if err := s.Send(text("5")); err != nil {
		t.Fatal(err)
	}
	if m := c.message(); string(m.Data) != "5" {
		t.Errorf("got %q, want 5: volatile messages are not kept", m.Data)
	}
}

func TestSilentConnectionTimesOut(t *testing.T) {
	j := newCallRecorder()
	r := newRig(t, j, func(c *Config) { c.PingInterval = 100 * time.Millisecond })
	claims := r.login("silent")
	c := r.dial(claims, "") // reads nothing, so it answers no ping
	j.await(t, "silent", "opened", "detached")
	if got := c.closed(); got != int(proto.CloseTimeout) {
		t.Errorf("closed with %d, want 4102", got)
	}

	live := r.attach(r.login("live"), "") // the library answers pings while it reads
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
		defer cancel()
		_, _, _ = live.ws.Read(ctx)
	}()
	<-done
	if got := j.of("live"); len(got) == 0 || got[0] != "opened" {
		t.Errorf("application saw %q", got)
	}
	if n := strings.Count(r.log.String(), "reason=timeout"); n != 1 {
		t.Errorf("%d connections timed out, want the silent one", n)
	}
}

func TestWindowCloses(t *testing.T) {
	j := newCallRecorder()
	r := newRig(t, j, func(c *Config) { c.ResumeWindow = 50 * time.Millisecond })
	claims := r.login("ada")
	r.attach(claims, "").ws.CloseNow()
	j.await(t, "ada", "opened", "detached", "closed session_ended")
	eventually(t, func() error {
		if _, err := r.store.Get(t.Context(), claims.Session); !errors.Is(err, session.ErrEnded) {
			return errors.New("the store does not know")
		}
		return nil
	})
	if got := r.dial(claims, "").closed(); got != int(proto.CloseSessionEnded) {
		t.Errorf("closed with %d, want 4001", got)
	}
	if _, live, _ := r.node.Load(); live != 0 {
		t.Errorf("%d sessions left", live)
	}
}

func TestCommands(t *testing.T) {
	j := newCallRecorder()
	r := newRig(t, j, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	j.await(t, "ada", "opened")
	do := func(cmd proto.Command) proto.CommandResult {
		return r.node.Command(t.Context(), "auth-1", cmd)
	}
	if res := do(proto.Command{Op: proto.OpMoved, Session: claims.Session, Epoch: 1}); !res.Found {
		t.Error("not found")
	}
	c.send(text("still"))
	j.await(t, "ada", "opened", "message still")
	if res := do(proto.Command{Op: proto.OpMoved, Session: claims.Session, Epoch: 2}); !res.Found {
		t.Error("not found")
	}
	if got := c.closed(); got != int(proto.CloseMoved) {
		t.Errorf("closed with %d, want 4202", got)
	}
	if res := do(proto.Command{Op: proto.OpEnd, Session: claims.Session, Code: proto.CloseKicked}); res.Found {
		t.Error("found a session that had moved")
	}
	if res := do(proto.Command{Op: "dance"}); res.Error == "" {
		t.Error("unknown command accepted")
	}
	claims = r.login("bob")
	c = r.attach(claims, "")
	j.await(t, "bob", "opened")
	do(proto.Command{Op: proto.OpEnd, Session: claims.Session, Code: proto.CloseKicked})
	if got := c.closed(); got != int(proto.CloseKicked) {
		t.Errorf("closed with %d, want 4002", got)
	}
	j.await(t, "bob", "opened", "closed kicked")
}

// A node that got no command learns from the store that a session has ended or
// belongs to another node.
func TestStoreReportsEndAndMove(t *testing.T) {
	r := newRig(t, Echo{}, func(c *Config) { c.RenewInterval = 40 * time.Millisecond })
	moved := r.login("moved")
	c := r.attach(moved, "")
	if _, err := r.store.Reassign(t.Context(), "r", session.Record{ID: moved.Session, Epoch: 1}, "node-2", time.Minute); err != nil {
		t.Fatal(err)
	}
	if got := c.closed(); got != int(proto.CloseMoved) {
		t.Errorf("closed with %d, want 4202", got)
	}
	ended := r.login("ended")
	c = r.attach(ended, "")
	if _, err := r.store.End(t.Context(), ended.Session, 0, proto.CloseKicked, "", time.Minute); err != nil {
		t.Fatal(err)
	}
	if got := c.closed(); got != int(proto.CloseKicked) {
		t.Errorf("closed with %d, want 4002", got)
	}
}

// unavailableStore is a store that can become unavailable.
type unavailableStore struct {
	session.Store
	down atomic.Bool
}

func (s *unavailableStore) err() error {
	if s.down.Load() {
		return session.ErrUnavailable
	}
	return nil
}

func (s *unavailableStore) Ping(ctx context.Context) error {
	return errors.Join(s.err(), s.Store.Ping(ctx))
}

func (s *unavailableStore) Attach(ctx context.Context, l session.Lease, stream string, take bool, proof uint64, ttl time.Duration) (session.Record, error) {
	if err := s.err(); err != nil {
		return session.Record{}, err
	}
	return s.Store.Attach(ctx, l, stream, take, proof, ttl)
}

func TestStoreUnavailable(t *testing.T) {
	var store *unavailableStore
	r := newRig(t, Echo{}, func(c *Config) {
		store = &unavailableStore{Store: wholeStore(c)}
		c.Store = store
	})
	claims, fresh := r.login("ada"), r.login("fresh")
	c := r.attach(claims, "")
	store.down.Store(true)
	c.send(text("still served"))
	if m := c.message(); string(m.Data) != "still served" {
		t.Errorf("got %q", m.Data)
	}
	c.ws.CloseNow()
	again := r.attach(claims, resumeQuery(c.welcome.Stream, 1))
	if !again.welcome.Resumed {
		t.Errorf("welcome %+v", again.welcome)
	}
	if got := r.dial(fresh, "").closed(); got != int(proto.CloseInternal) {
		t.Errorf("a session never seen: closed with %d, want 4103", got)
	}
	store.down.Store(false)
	eventually(t, func() error {
		rec, err := r.store.Get(t.Context(), claims.Session)
		if err == nil && rec.State != session.Attached {
			err = errors.New("store says " + string(rec.State))
		}
		return err
	})
}

func TestPanics(t *testing.T) {
	j := newCallRecorder()
	j.on = func(s *Session, m Message) {
		if string(m.Data) == "bad" {
			panic("bug in the game")
		}
	}
	r := newRig(t, j, nil)
	claims := r.login("ada")
	c := r.attach(claims, "")
	other := r.attach(r.login("bob"), "")
	c.send(text("bad"))
	if got := c.closed(); got != int(proto.CloseInternal) {
		t.Errorf("closed with %d, want 4103", got)
	}
	c = r.attach(claims, resumeQuery(c.welcome.Stream, 0))
	if !c.welcome.Resumed || c.welcome.Received != 1 {
		t.Errorf("welcome %+v: the message that panics must not come again", c.welcome)
	}
	other.send(text("fine"))
	j.await(t, "bob", "opened", "message fine")
}

func TestPingFloodIsCut(t *testing.T) {
	hold := make(chan struct{})
	r := newRig(t, Echo{}, func(c *Config) { c.WriteTimeout = 200 * time.Millisecond })
	defer close(hold)
	claims := r.login("ada")
	c := r.dial(claims, "")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ping := proto.AppendControl(nil, proto.Control{Type: proto.TypePing, ID: 1})
	for i := 0; i < 5_000_000; i++ {
		if c.ws.Write(ctx, websocket.MessageText, ping) != nil {
			return // the node closed it, because it does not read the answers
		}
	}
	t.Error("a client that never reads could send pings without end")
}

func TestShutdown(t *testing.T) {
	j := newCallRecorder()
	r := newRig(t, j, nil)
	c := r.attach(r.login("ada"), "")
	j.await(t, "ada", "opened")
	if err := j.session(t, "ada").Send(text("bye")); err != nil {
		t.Fatal(err)
	}
	go func() { _ = r.node.Shutdown(context.Background()) }()
	if m := c.message(); string(m.Data) != "bye" {
		t.Errorf("got %q", m.Data)
	}
	if got := c.closed(); got != int(proto.CloseGoingAway) {
		t.Errorf("closed with %d, want 4200", got)
	}
	j.await(t, "ada", "opened", "closed going_away")
}

// forgetfulStore can lose all its data at once.
type forgetfulStore struct {
	session.Store
	mu sync.Mutex
}

func (s *forgetfulStore) current() session.Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Store
}

func (s *forgetfulStore) loseData() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Store = memory.New(time.Now)
}

func (s *forgetfulStore) Get(ctx context.Context, id string) (session.Record, error) {
	return s.current().Get(ctx, id)
}

func (s *forgetfulStore) Ping(ctx context.Context) error { return s.current().Ping(ctx) }

func (s *forgetfulStore) Renew(ctx context.Context, records []session.Record, ttls []time.Duration) []error {
	return s.current().Renew(ctx, records, ttls)
}

// If a store loses its data so quickly that it never looks unavailable, the node
// writes the records of attached and detached sessions again long before they are
// due.
func TestStoreLosesData(t *testing.T) {
	var store *forgetfulStore
	r := newRig(t, newCallRecorder(), func(c *Config) {
		store = &forgetfulStore{Store: wholeStore(c)}
		c.Store, c.RenewInterval = store, time.Hour
		c.PingInterval = time.Second // so four checks a second
	})
	ada, bob := r.login("ada"), r.login("bob")
	r.attach(ada, "")
	r.attach(bob, "").ws.CloseNow()
	state := func(c proto.Claims, want session.State) {
		t.Helper()
		eventually(t, func() error {
			rec, err := store.Get(context.Background(), c.Session)
			if err == nil && rec.State != want {
				err = fmt.Errorf("state %s, want %s", rec.State, want)
			}
			return err
		})
	}
	state(ada, session.Attached)
	state(bob, session.Detached)
	store.loseData()
	state(ada, session.Attached)
	state(bob, session.Detached)
}
