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

// Every story of resume.json, on a real node; the test plays the client.
func TestResumeVectors(t *testing.T) {
	for _, v := range vectors.Resumes() {
		t.Run(v.Name, func(t *testing.T) {
			s := newStory(t, v)
			for i, step := range v.Steps {
				s.step = fmt.Sprintf("step %d, %s", i+1, step.Op)
				s.do(step)
			}
		})
	}
}

// story is a session in the making.
type story struct {
	*rig
	t      *testing.T
	limits vectors.Limits
	app    *noter
	claims proto.Claims
	step   string

	streams  map[string]string  // the node's names, by the story's
	conns    map[string]*client // by the story's names
	now      *client            // the one the client uses; nil while it is detached
	toClient []string
	toNode   int // messages that arrive there
	resets   int // told to the application, of those looked at
}

// noter is an application that notes what it gets.
type noter struct {
	mu     sync.Mutex
	got    []string
	resets []Reset
}

func (n *noter) Opened(*Session)                  {}
func (n *noter) Detached(*Session)                {}
func (n *noter) Resumed(*Session)                 {}
func (n *noter) Closed(*Session, proto.CloseCode) {}

func (n *noter) Reset(_ *Session, r Reset) {
	n.mu.Lock()
	defer n.mu.Unlock()
	last := len(n.resets) - 1
	if last < 0 || !n.resets[last].Away || len(r.Unconfirmed) > 0 {
		n.resets = append(n.resets, r)
		return
	}
	n.resets[last].Away = r.Away // the same, when the client is back
}

func (n *noter) Message(_ *Session, m Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.got = append(n.got, string(m.Data))
}

func newStory(t *testing.T, v vectors.Resume) *story {
	s := &story{t: t, limits: v.Limits, app: &noter{}, streams: map[string]string{"never": "never"}, conns: map[string]*client{}}
	s.start(nil)
	s.claims = s.login("ada")
	return s
}

// start starts the node, with the store of the one before it.
func (s *story) start(store session.Store) {
	s.rig = newRig(s.t, s.app, func(c *Config) {
		if store != nil {
			c.Store = store
		}
		c.Store = &crashStore{Store: c.Store}
		c.Limits = Limits{MessageBytes: s.limits.Bytes, UnackedBytes: s.limits.Bytes, UnackedMessages: s.limits.Messages}
	})
}

// crashStore lets a node that is stopped look as if it had crashed.
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

func (s *story) fatalf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s: %s", s.step, fmt.Sprintf(format, args...))
}

func (s *story) session() *Session { return s.node.session(s.claims.Session) }

func (s *story) do(v vectors.ResumeStep) {
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
		s.awaitArrival()
		store := s.store.(*crashStore).Store
		s.store.(*crashStore).crashed.Store(true)
		for _, c := range s.conns {
			c.ws.CloseNow()
		}
		if err := s.node.Shutdown(context.Background()); err != nil {
			s.fatalf("%v", err)
		}
		s.now = nil
		s.start(store)
	case vectors.OpWindow:
		ses := s.session()
		ses.mu.Lock()
		ses.detached = ses.detached.Add(-time.Hour)
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
		s.awaitNode(v.ToNode)
	default:
		s.fatalf("unknown")
	}
}

func (s *story) doAttach(v vectors.ResumeStep) {
	s.t.Helper()
	q := url.Values{}
	if v.Attempt != nil {
		q.Set(proto.QueryAttempt, fmt.Sprint(*v.Attempt))
	}
	if v.Names != "" {
		q.Set(proto.QueryStream, s.streams[v.Names])
		q.Set(proto.QueryReceived, fmt.Sprint(v.Received))
	}
	s.awaitArrival()
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
	s.wantReset(v)
	if v.Lost {
		return // what the node sends now, nobody reads
	}
	s.now = c
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

// wantReset waits for what the application is to be told of a stream that
// ended.
func (s *story) wantReset(v vectors.ResumeStep) {
	s.t.Helper()
	if v.NodeUnconfirmed == nil {
		return
	}
	s.resets++
	eventually(s.t, func() error {
		s.app.mu.Lock()
		defer s.app.mu.Unlock()
		if len(s.app.resets) < s.resets {
			return fmt.Errorf("%s: the application was told of %d resets, not %d", s.step, len(s.app.resets), s.resets)
		}
		var lost []string
		for _, m := range s.app.resets[s.resets-1].Unconfirmed {
			lost = append(lost, string(m.Data))
		}
		if !slices.Equal(lost, v.NodeUnconfirmed) {
			return fmt.Errorf("%s: the application was told of %q, not %q", s.step, lost, v.NodeUnconfirmed)
		}
		return nil
	})
}

// read reads the next message that the client is to get.
func (s *story) read(want string) {
	s.t.Helper()
	if m := s.now.message(); string(m.Data) != want {
		s.fatalf("the client got %q, want %q", m.Data, want)
	}
	s.toClient = append(s.toClient, want)
}

func (s *story) doSend(v vectors.ResumeStep) {
	s.t.Helper()
	m := text("%s", v.Data)
	m.Volatile = v.Volatile
	if v.From == "client" {
		if s.now != nil && !v.Lost && v.Error == "" { // or it is kept
			s.now.send(m)
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
	s.wantReset(v)
	if err == nil && s.now != nil && attached && !v.Lost {
		s.read(v.Data)
	}
}

func (s *story) doAck(v vectors.ResumeStep) {
	s.t.Helper()
	if v.Lost {
		return
	}
	if v.From == "client" {
		s.now.sendControl(proto.Control{Type: proto.TypeAck, Received: v.Count})
		if v.Close != 0 {
			if code := s.now.closed(); code != int(v.Close) {
				s.fatalf("closed with %d, want %d", code, v.Close)
			}
			s.now = nil
		}
		return
	}
	for {
		if ctl := s.now.control(); ctl.Type == proto.TypeAck && ctl.Received >= v.Count {
			return
		}
	}
}

func (s *story) doCut(v vectors.ResumeStep) {
	s.t.Helper()
	c := s.conns[v.Conn]
	if c == s.now && v.SeenBy != "node" {
		s.now = nil
	}
	s.awaitArrival()
	if v.SeenBy == "client" {
		return // the node's socket stays
	}
	if c == s.now {
		s.now = nil // what it would still send goes nowhere
	}
	c.ws.CloseNow()
	eventually(s.t, func() error {
		if ses := s.session(); ses != nil && !ses.owns(nil) {
			return fmt.Errorf("%s: still attached", s.step)
		}
		return nil
	})
}

func (s *story) doCounts(v vectors.ResumeStep) {
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

// awaitArrival waits for what is on its way to the node: the step that follows
// comes after it.
func (s *story) awaitArrival() {
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

func (s *story) awaitNode(want []string) {
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
