package node

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/vectors"
)

// TestResumeVectors runs every vector of resume.json on a real node. The test plays
// the client.
func TestResumeVectors(t *testing.T) {
	for _, v := range vectors.Resumes() {
		t.Run(v.Name, func(t *testing.T) {
			s := newResumeTest(t, v)
			for i, step := range v.Steps {
				s.step = fmt.Sprintf("step %d, %s", i+1, step.Op)
				s.do(step)
			}
		})
	}
}

// resumeTest is one vector in progress.
type resumeTest struct {
	*rig
	t      *testing.T
	limits vectors.Limits
	app    *messageRecorder
	claims proto.Claims
	step   string

	streams  map[string]string  // the node's stream names, by their names in the vector
	conns    map[string]*client // by their names in the vector
	current  *client            // the connection that the client uses; nil while it is detached
	toClient []string
	toNode   int // number of messages that the node must receive
	resets   int // resets that the application must get so far
}

// messageRecorder is an App that records messages and resets.
type messageRecorder struct {
	mu     sync.Mutex
	got    []string
	resets []Reset
}

func (n *messageRecorder) Opened(*Session)                  {}
func (n *messageRecorder) Detached(*Session)                {}
func (n *messageRecorder) Resumed(*Session)                 {}
func (n *messageRecorder) Closed(*Session, proto.CloseCode) {}

func (n *messageRecorder) Reset(_ *Session, r Reset) {
	n.mu.Lock()
	defer n.mu.Unlock()
	last := len(n.resets) - 1
	if last < 0 || !n.resets[last].Away || len(r.Unconfirmed) > 0 {
		n.resets = append(n.resets, r)
		return
	}
	n.resets[last].Away = r.Away // the same reset again, when the client is back
}

func (n *messageRecorder) Message(_ *Session, m Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.got = append(n.got, string(m.Data))
}

func newResumeTest(t *testing.T, v vectors.Resume) *resumeTest {
	s := &resumeTest{t: t, limits: v.Limits, app: &messageRecorder{}, streams: map[string]string{"never": "never"}, conns: map[string]*client{}}
	s.start(nil)
	s.claims = s.login("ada")
	return s
}

// start starts the node, with the store of the previous one.
func (s *resumeTest) start(store session.Store) {
	s.rig = newRig(s.t, s.app, func(c *Config) {
		if store != nil {
			c.Store = store
		}
		c.Store = &crashStore{Store: wholeStore(c)}
		c.Limits = Limits{MessageBytes: s.limits.Bytes, UnackedBytes: s.limits.Bytes, UnackedMessages: s.limits.Messages}
	})
}

// crashStore makes the shutdown of a node look like a crash: it saves nothing.
type crashStore struct {
	session.Store
	crashed atomic.Bool
}

func (s *crashStore) Save(ctx context.Context, list []session.Saved) []error {
	if !s.crashed.Load() {
		return s.Store.Save(ctx, list)
	}
	errs := make([]error, len(list))
	for i := range errs {
		errs[i] = session.ErrUnavailable
	}
	return errs
}

func (s *resumeTest) fatalf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s: %s", s.step, fmt.Sprintf(format, args...))
}

func (s *resumeTest) session() *Session { return s.node.session(s.claims.Session) }

func (s *resumeTest) do(v vectors.ResumeStep) {
	s.t.Helper()
	switch v.Op {
	case vectors.OpAttach:
		s.doAttach(v)
	case vectors.OpSend:
		s.doSend(v)
	case vectors.OpAck:
		s.doAck(v)
	case vectors.OpArrive:
		if v.From == "client" { // on a connection that the node has closed
			_ = s.conns[v.Conn].ws.Write(context.Background(), websocket.MessageBinary, proto.AppendMessage(nil, text("%s", v.Data)))
		}
	case vectors.OpCut:
		s.doCut(v)
	case vectors.OpCrash:
		s.awaitArrivals()
		store := s.store.(*crashStore).Store
		s.store.(*crashStore).crashed.Store(true)
		for _, c := range s.conns {
			c.ws.CloseNow()
		}
		if err := s.node.Shutdown(context.Background()); err != nil {
			s.fatalf("%v", err)
		}
		s.current = nil
		s.start(store)
	case vectors.OpWindow:
		ses := s.session()
		ses.mu.Lock()
		ses.detached = ses.detached.Add(-time.Hour)
		ses.update(time.Now())
		ses.mu.Unlock()
		eventually(s.t, func() error {
			if rec, err := s.store.Get(context.Background(), s.claims.Session); rec.State != session.Ended {
				return fmt.Errorf("the store says %s, %v", rec.State, err)
			}
			return nil
		})
	case vectors.OpCounts:
		s.doCounts(v)
	case vectors.OpDelivered:
		if !slices.Equal(s.toClient, v.ToClient) {
			s.fatalf("the client got %q, want %q", s.toClient, v.ToClient)
		}
		s.awaitMessages(v.ToNode)
	default:
		s.fatalf("unknown")
	}
}

func (s *resumeTest) doAttach(v vectors.ResumeStep) {
	s.t.Helper()
	q := url.Values{}
	if v.Attempt != nil {
		q.Set(proto.QueryAttempt, fmt.Sprint(*v.Attempt))
	}
	if v.Names != "" {
		q.Set(proto.QueryStream, s.streams[v.Names])
		q.Set(proto.QueryReceived, fmt.Sprint(v.Received))
	}
	s.awaitArrivals()
	c := s.dial(s.claims, q.Encode())
	s.conns[v.Conn] = c
	if v.Outcome == vectors.OutcomeRefused {
		if code := c.closed(); code != int(v.Code) {
			s.fatalf("closed with %d, want %d", code, v.Code)
		}
		return
	}
	ctl := c.control()
	w := ctl.Welcome
	if ctl.Type != proto.TypeWelcome || w.Resumed != (v.Outcome == vectors.OutcomeResumed) || w.Reason != v.Reason || w.Received != v.Counted {
		s.fatalf("got %+v", ctl)
	}
	if name, known := s.streams[v.Stream]; !known {
		s.streams[v.Stream] = w.Stream
	} else if name != w.Stream {
		s.fatalf("stream %s, want %s, which is %s", w.Stream, name, v.Stream)
	}
	if v.Replaces != "" {
		if code := s.conns[v.Replaces].closed(); code != int(proto.CloseReplaced) {
			s.fatalf("%s was closed with %d", v.Replaces, code)
		}
	}
	s.awaitReset(v)
	if v.Lost {
		return // the client reads nothing of what the node sends now
	}
	s.current = c
	if v.ResendsLost {
		return
	}
	for _, want := range v.NodeResends {
		s.read(want)
	}
	for _, data := range v.ClientResends {
		c.send(text("%s", data))
		s.toNode++
	}
}

// awaitReset waits until the application gets the reset of a stream that ended.
func (s *resumeTest) awaitReset(v vectors.ResumeStep) {
	s.t.Helper()
	if v.NodeUnconfirmed == nil {
		return
	}
	s.resets++
	eventually(s.t, func() error {
		s.app.mu.Lock()
		defer s.app.mu.Unlock()
		if len(s.app.resets) < s.resets {
			return fmt.Errorf("%s: the application got %d resets, want %d", s.step, len(s.app.resets), s.resets)
		}
		var lost []string
		for _, m := range s.app.resets[s.resets-1].Unconfirmed {
			lost = append(lost, string(m.Data))
		}
		if !slices.Equal(lost, v.NodeUnconfirmed) {
			return fmt.Errorf("%s: the application got %q as unconfirmed, want %q", s.step, lost, v.NodeUnconfirmed)
		}
		return nil
	})
}

// read reads the next message and checks that the client gets the one expected.
func (s *resumeTest) read(want string) {
	s.t.Helper()
	if m := s.current.message(); string(m.Data) != want {
		s.fatalf("the client got %q, want %q", m.Data, want)
	}
	s.toClient = append(s.toClient, want)
}

func (s *resumeTest) doSend(v vectors.ResumeStep) {
	s.t.Helper()
	m := text("%s", v.Data)
	m.Volatile = v.Volatile
	if v.From == "client" {
		if s.current != nil && !v.Lost && v.Error == "" { // or the client keeps it
			s.current.send(m)
			s.toNode++
		}
		return
	}
	attached := !s.session().owns(nil)
	err := s.session().Send(m)
	switch v.Error {
	case "":
		if err != nil {
			s.fatalf("%v", err)
		}
	case "overflow":
		if !errors.Is(err, ErrOverflow) {
			s.fatalf("error %v, want an overflow", err)
		}
	default:
		if !errors.Is(err, ErrSlow) {
			s.fatalf("error %v, want %s", err, v.Error)
		}
	}
	s.awaitReset(v)
	if err == nil && s.current != nil && attached && !v.Lost {
		s.read(v.Data)
	}
}

func (s *resumeTest) doAck(v vectors.ResumeStep) {
	s.t.Helper()
	if v.Lost {
		return
	}
	if v.From == "client" {
		s.current.sendControl(proto.Control{Type: proto.TypeAck, Received: v.Count})
		if v.Close != 0 {
			if code := s.current.closed(); code != int(v.Close) {
				s.fatalf("closed with %d, want %d", code, v.Close)
			}
			s.current = nil
		}
		return
	}
	for {
		if ctl := s.current.control(); ctl.Type == proto.TypeAck && ctl.Received >= v.Count {
			return
		}
	}
}

func (s *resumeTest) doCut(v vectors.ResumeStep) {
	s.t.Helper()
	c := s.conns[v.Conn]
	if c == s.current && v.SeenBy != "node" {
		s.current = nil
	}
	s.awaitArrivals()
	if v.SeenBy == "client" {
		return // the node's socket stays open
	}
	if c == s.current {
		s.current = nil // nobody reads what it still sends
	}
	c.ws.CloseNow()
	eventually(s.t, func() error {
		if ses := s.session(); ses != nil && !ses.owns(nil) {
			return fmt.Errorf("%s: still attached", s.step)
		}
		return nil
	})
}

func (s *resumeTest) doCounts(v vectors.ResumeStep) {
	s.t.Helper()
	if v.Of != "node" {
		return
	}
	eventually(s.t, func() error {
		ses := s.session()
		ses.mu.Lock()
		defer ses.mu.Unlock()
		sent, acked, received := ses.stream.Sent(), ses.stream.Acked(), ses.stream.Received()
		if sent != v.Sent || acked != v.Acked || received != v.Received {
			return fmt.Errorf("%s: sent %d, acked %d, received %d; want %d, %d, %d", s.step, sent, acked, received, v.Sent, v.Acked, v.Received)
		}
		return nil
	})
}

// awaitArrivals waits until the messages sent to the node have arrived, before the
// next step.
func (s *resumeTest) awaitArrivals() {
	s.t.Helper()
	eventually(s.t, func() error {
		s.app.mu.Lock()
		defer s.app.mu.Unlock()
		if len(s.app.got) < s.toNode {
			return fmt.Errorf("%s: %d messages of %d have arrived", s.step, len(s.app.got), s.toNode)
		}
		return nil
	})
}

func (s *resumeTest) awaitMessages(want []string) {
	s.t.Helper()
	eventually(s.t, func() error {
		s.app.mu.Lock()
		defer s.app.mu.Unlock()
		if !slices.Equal(s.app.got, want) {
			return fmt.Errorf("%s: the application got %q, want %q", s.step, s.app.got, want)
		}
		return nil
	})
}
