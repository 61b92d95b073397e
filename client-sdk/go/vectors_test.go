package usher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/vectors"
)

// The scenarios of resume.json. The test plays the node.
func TestResumeVectors(t *testing.T) {
	for _, v := range vectors.Resumes() {
		t.Run(v.Name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				p := &player{t: t, cluster: w, limits: v.Limits}
				for i, step := range v.Steps {
					if step.Hostile {
						break // the client does not do this
					}
					p.at = fmt.Sprintf("step %d, %s", i, step.Op)
					p.step(step)
				}
			})
		})
	}
}

// player plays the node of a scenario for a session whose application handles every
// message at once.
type player struct {
	t       *testing.T
	cluster *cluster
	limits  vectors.Limits
	at      string

	s       *Session
	pending func() (*Session, error) // a Connect that has not returned
	peer    *peer                    // nil while the node holds no connection
	conn    string
	dead    bool // the client's messages do not arrive
	gone    bool // the node's messages do not arrive
	attempt uint64
	acked   uint64 // the last count that the client acknowledged

	mu  sync.Mutex
	got []string
}

func (p *player) step(s vectors.ResumeStep) {
	p.t.Helper()
	switch s.Op {
	case vectors.OpAttach:
		p.attach(s)
	case vectors.OpSend:
		p.send(s)
	case vectors.OpAck:
		p.ack(s)
	case vectors.OpCut:
		if s.Conn != p.conn {
			return
		}
		if s.SeenBy == "node" {
			p.dead, p.gone = true, true
			return
		}
		p.cut()
	case vectors.OpCounts:
		if s.Of == "client" {
			p.s.mu.Lock()
			got := fmt.Sprint(p.s.stream.Sent(), p.s.stream.Acked(), p.s.stream.Received())
			p.s.mu.Unlock()
			p.equal("counts", got, fmt.Sprint(s.Sent, s.Acked, s.Received))
		}
	case vectors.OpDelivered:
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.same("delivered", p.got, s.ToClient)
	}
}

func (p *player) cut() {
	if p.peer != nil {
		p.peer.wire.cut()
	}
	p.peer, p.conn = nil, ""
	synctest.Wait()
}

func (p *player) attach(s vectors.ResumeStep) {
	p.t.Helper()
	if s.Attempt != nil && *s.Attempt < p.attempt && !s.Other {
		return // a delayed attempt, which the client has given up
	}
	if s.Attempt != nil {
		p.attempt = *s.Attempt
	}
	old := p.peer
	started := p.pending
	p.pending = nil
	if started != nil {
		// The attempt is in progress.
	} else if p.s == nil || s.Other {
		cfg := p.cluster.config()
		if s.Other {
			at := p.s.Assignment()
			cfg.Credentials, cfg.Assignment = nil, &at
		}
		started = p.cluster.connect(cfg)
	} else {
		p.cut()
	}
	a := p.cluster.nodes["n1"].next()
	received := ""
	if s.Names != "" {
		received = strconv.FormatUint(s.Received, 10)
	}
	a.names(s.Names, received)
	if s.Outcome == vectors.OutcomeRefused {
		a.close(s.Code)
		p.cluster.wantState(Detached)
		p.cluster.wantEnded(s.Code)
		return
	}
	c := a.accept()
	if s.Lost {
		c.wire.cut()
		p.pending = started // the client tries again
		return
	}
	p.welcome(s, c, old, started)
}

func (p *player) bounds(w *proto.Welcome) {
	w.MaxUnackedMessages, w.MaxUnackedBytes, w.MaxMessageBytes = p.limits.Messages, p.limits.Bytes, p.limits.Bytes
}

// adopt waits for the session of a Connect, and receives its messages.
func (p *player) adopt(started func() (*Session, error)) {
	p.t.Helper()
	s, err := started()
	if err != nil {
		p.t.Fatalf("%s: %v", p.at, err)
	}
	p.s = s
	p.t.Cleanup(func() { leave(s) })
	p.cluster.wantState(Attached)
	go func() {
		for {
			m, err := s.Receive(context.Background())
			if err != nil {
				return
			}
			p.mu.Lock()
			p.got = append(p.got, string(m.Data))
			p.mu.Unlock()
		}
	}()
}

func (p *player) welcome(s vectors.ResumeStep, c, old *peer, started func() (*Session, error)) {
	p.t.Helper()
	c.welcome(func(w *proto.Welcome) {
		w.Stream, w.Reason, w.Received = s.Stream, s.Reason, s.Counted
		w.Resumed = s.Outcome == vectors.OutcomeResumed
		p.bounds(w)
	})
	before := p.s
	if started != nil {
		p.adopt(started)
	} else {
		p.cluster.wantState(Detached)
		if s.Outcome == vectors.OutcomeReset {
			r := <-p.cluster.resets
			p.equal("reason", r.Reason, s.Reason)
			p.same("unconfirmed", payloads(r.Unconfirmed), s.ClientUnconfirmed)
		}
		p.cluster.wantState(Attached)
	}
	if s.Other {
		old.close(proto.CloseReplaced)
		end := p.cluster.wantEnded(proto.CloseReplaced)
		p.same("unconfirmed", payloads(end.Unconfirmed), s.ClientUnconfirmed)
		leave(before)
	}
	if len(p.cluster.resets) > 0 {
		p.t.Fatalf("%s: another reset: %+v", p.at, <-p.cluster.resets)
	}
	p.peer, p.conn, p.dead, p.gone = c, s.Conn, s.ResendsLost, s.ResendsLost
	if !s.ResendsLost {
		c.want(s.ClientResends...)
		c.send(s.NodeResends...)
		synctest.Wait()
	}
}

func (p *player) send(s vectors.ResumeStep) {
	p.t.Helper()
	there := p.peer != nil && !s.Lost
	if s.From == "node" {
		switch {
		case !there || p.gone:
		case s.Volatile:
			p.peer.sendVolatile(s.Data)
		default:
			p.peer.send(s.Data)
		}
		synctest.Wait()
		return
	}
	if s.Volatile {
		if err := p.s.SendVolatileText(s.Data); err != nil {
			p.t.Fatalf("%s: %v", p.at, err)
		}
	} else {
		err := p.s.TrySendText(s.Data)
		if full := s.Error == "full"; full != errors.Is(err, ErrFull) || err != nil && !full {
			p.t.Fatalf("%s: %v, want %q", p.at, err, s.Error)
		} else if full {
			return
		}
	}
	if there && !p.dead {
		p.peer.want(s.Data)
	} else {
		p.dead = true
		synctest.Wait()
	}
}

func (p *player) ack(s vectors.ResumeStep) {
	p.t.Helper()
	switch {
	case s.Lost:
	case s.From == "client" && s.Count == p.acked: // the client does not repeat it
	case s.From == "node":
		p.peer.ack(s.Count)
		synctest.Wait()
	default:
		p.acked = s.Count
		want := string(proto.AppendControl(nil, proto.Control{Type: proto.TypeAck, Received: s.Count}))
		for got := ""; got != want; {
			typ, b := p.peer.read()
			if got = string(b); typ != websocket.MessageText {
				p.t.Fatalf("%s: the client sent %q", p.at, b)
			}
		}
	}
}

func (p *player) equal(what string, got, want any) {
	p.t.Helper()
	if got != want {
		p.t.Fatalf("%s: %s: %v, want %v", p.at, what, got, want)
	}
}

func (p *player) same(what string, got, want []string) {
	p.t.Helper()
	if !slices.Equal(got, want) {
		p.t.Fatalf("%s: %s: %q, want %q", p.at, what, got, want)
	}
}

// Every valid control is acted on or ignored, and the session continues.
func TestControlVectors(t *testing.T) {
	for _, v := range vectors.Controls() {
		if v.Control.Type == proto.TypeWelcome || v.Control.Type == proto.TypeAck || v.Control.Type == proto.TypeGoAway {
			continue // other tests cover these types, which depend on earlier events
		}
		t.Run(v.Name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				s, p := w.attach()
				p.text(v.Text)
				if v.Control.Type == proto.TypePing {
					p.wantControl(fmt.Sprintf(`{"type":"pong","id":%d}`, v.Control.ID))
				}
				p.send("x")
				receive(t, s, "x")
				send(t, s, "a")
				p.want("a")
			})
		})
	}
}

// Every valid welcome attaches.
func TestWelcomeVectors(t *testing.T) {
	for _, v := range vectors.Controls() {
		if v.Control.Type != proto.TypeWelcome || v.Control.Welcome.Resumed {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				cfg := w.config()
				at := assign("n1", "saved")
				at.Session = ""
				cfg.Credentials, cfg.Assignment = nil, &at
				got := w.connect(cfg)
				w.nodes["n1"].next().accept().text(v.Text)
				s, err := got()
				if err != nil {
					t.Fatal(err)
				}
				if s.Node() != v.Control.Welcome.Node || s.SessionID() != v.Control.Welcome.Session {
					t.Errorf("attached to %s, session %s", s.Node(), s.SessionID())
				}
				leave(s)
			})
		})
	}
}

// An invalid control ends the connection and the session.
func TestBadControlVectors(t *testing.T) {
	for _, v := range vectors.BadControls() {
		t.Run(v.Name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				_, p := w.attach()
				p.write(websocket.MessageText, v.Payload())
				code := proto.CloseProtocolError
				if len(v.Payload()) > proto.MaxControlBytes {
					code = proto.CloseTooLarge
				}
				w.wantEnded(code)
				p.wantClose(code)
			})
		})
	}
}

func TestBadMessageVectors(t *testing.T) {
	for _, v := range vectors.BadMessages() {
		t.Run(v.Name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				s, p := w.attach()
				p.write(websocket.MessageBinary, v.Frame)
				w.wantEnded(proto.CloseProtocolError)
				p.wantClose(proto.CloseProtocolError)
				if _, err := s.Receive(t.Context()); !errors.Is(err, ErrEnded) {
					t.Errorf("received: %v", err)
				}
				if n := s.Stats().Received; n != 0 {
					t.Errorf("counted %d", n)
				}
			})
		})
	}
}

// Messages are encoded and decoded as in the vectors.
func TestMessageVectors(t *testing.T) {
	big := func(w *proto.Welcome) { w.MaxMessageBytes, w.MaxUnackedBytes = 1<<20, 1<<20 }
	for _, v := range vectors.Messages() {
		t.Run(v.Name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				s, p := w.attachWith(w.config(), big)
				var err error
				switch {
				case v.Volatile && v.Text:
					err = s.SendVolatileText(v.String)
				case v.Volatile:
					err = s.SendVolatile(v.Data)
				case v.Text:
					err = s.SendText(t.Context(), v.String)
				default:
					err = s.Send(t.Context(), v.Data)
				}
				if err != nil {
					t.Fatal(err)
				}
				if typ, b := p.read(); typ != websocket.MessageBinary || !slices.Equal(b, v.Frame) {
					t.Errorf("sent %x, want %x", b, v.Frame)
				}
				p.write(websocket.MessageBinary, v.Frame)
				m, err := s.Receive(t.Context())
				if err != nil || !slices.Equal(m.Data, v.Data) || m.Text != v.Text || m.Volatile != v.Volatile {
					t.Errorf("received %+v, %v", m, err)
				}
			})
		})
	}
}
