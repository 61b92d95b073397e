package stream_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
	"github.com/usher-broker/usher/proto/vectors"
)

// The stories of resume.json, told to two Streams and as much of a node and a
// client around them as PROTOCOL.md describes.
func TestResumeVectors(t *testing.T) {
	for _, v := range vectors.Resumes() {
		t.Run(v.Name, func(t *testing.T) {
			w := &world{t: t, limits: stream.Limits{Messages: v.Limits.Messages, Bytes: v.Limits.Bytes}, dead: map[string]bool{}}
			for i, step := range v.Steps {
				w.at = fmt.Sprintf("step %d, %s", i, step.Op)
				w.step(step)
			}
			if v.Steps[len(v.Steps)-1].Op != vectors.OpDelivered {
				t.Error("the story does not say what was delivered")
			}
		})
	}
}

// party is what both sides know of the session.
type party struct {
	name string // of the stream
	s    *stream.Stream
	conn string // "" while detached
	got  []string
}

type world struct {
	t      *testing.T
	at     string
	limits stream.Limits
	client party

	node     party
	attempt  *uint64 // of node.conn
	lost     bool    // the node has lost its memory,
	record   string  // and the store still names this stream
	ended    bool
	prevName string
	prevWhy  string

	dead map[string]bool // connection and sender of which something was lost
}

func (w *world) step(s vectors.ResumeStep) {
	switch s.Op {
	case vectors.OpAttach:
		w.attach(s)
	case vectors.OpSend:
		w.send(s)
	case vectors.OpAck:
		w.ack(s)
	case vectors.OpArrive:
		w.wantf(s.Conn != w.node.conn, "it arrives on the session's connection")
	case vectors.OpCut:
		w.cut(s)
	case vectors.OpCrash:
		w.node = party{got: w.node.got}
		w.lost, w.prevName = true, ""
	case vectors.OpWindow:
		w.wantf(w.node.conn == "", "the session is attached")
		w.ended = true
	case vectors.OpCounts:
		p := w.party(s.Of)
		got := fmt.Sprint(p.s.Sent(), p.s.Acked(), p.s.Received())
		w.equal("counts", got, fmt.Sprint(s.Sent, s.Acked, s.Received))
	case vectors.OpDelivered:
		w.same("to the client", w.client.got, s.ToClient)
		w.same("to the node", w.node.got, s.ToNode)
	default:
		w.t.Fatalf("%s: unknown", w.at)
	}
}

// attach is the handshake at the node and, unless it is lost, at the client.
func (w *world) attach(s vectors.ResumeStep) {
	if !s.Hostile && !s.Lost && !s.Other {
		w.equal("stream the client names", s.Names, w.client.name)
		if s.Names != "" {
			w.equal("received of the client", s.Received, w.client.s.Received())
		}
	}
	outcome, reason, code := w.decide(s)
	w.equal("outcome", outcome, s.Outcome)
	w.equal("reason", reason, s.Reason)
	w.equal("code", code, s.Code)
	if outcome == vectors.OutcomeRefused {
		return
	}
	var gone []string
	if outcome == vectors.OutcomeResumed {
		w.node.s.Resumed()
	} else {
		gone = payloads(w.node.s)
		w.prevName, w.prevWhy = w.node.name, proto.ResetUnknown
		w.node.name, w.node.s = s.Stream, &stream.Stream{Limits: w.limits}
		w.record, w.lost = s.Stream, false
	}
	w.same("unconfirmed of the node", gone, s.NodeUnconfirmed)
	w.equal("stream", s.Stream, w.node.name)
	w.equal("counted", s.Counted, w.node.s.Received())
	w.equal("replaced", w.node.conn, s.Replaces)
	w.node.conn, w.attempt = s.Conn, s.Attempt
	w.same("resends of the node", payloads(w.node.s), s.NodeResends)
	if !s.Lost && !s.Hostile {
		w.welcomed(s)
	}
}

// decide is the node's decision, and lets go of what the client has received.
func (w *world) decide(s vectors.ResumeStep) (outcome, reason string, code proto.CloseCode) {
	n := &w.node
	switch {
	case w.ended:
		return vectors.OutcomeRefused, "", proto.CloseSessionEnded
	case s.Names == "":
		return vectors.OutcomeNew, "", 0
	case w.lost && s.Names == w.record:
		return vectors.OutcomeReset, proto.ResetNodeLost, 0
	case s.Names == n.name:
		if n.conn != "" && s.Attempt != nil && w.attempt != nil && *s.Attempt < *w.attempt {
			return vectors.OutcomeRefused, "", proto.CloseReplaced
		}
		if n.s.Ack(s.Received) != nil {
			return vectors.OutcomeRefused, "", proto.CloseProtocolError
		}
		return vectors.OutcomeResumed, "", 0
	case s.Names == w.prevName:
		return vectors.OutcomeReset, w.prevWhy, 0
	}
	return vectors.OutcomeReset, proto.ResetUnknown, 0
}

// welcomed is the client's side of a handshake that succeeded.
func (w *world) welcomed(s vectors.ResumeStep) {
	c := &w.client
	if s.Outcome != vectors.OutcomeResumed {
		w.same("unconfirmed of the client", payloads(c.s), s.ClientUnconfirmed)
		c.name, c.s = s.Stream, &stream.Stream{Limits: w.limits}
	} else {
		if err := c.s.Ack(s.Counted); err != nil {
			w.t.Fatalf("%s: the client refuses the welcome: %v", w.at, err)
		}
		c.s.Resumed()
	}
	c.conn = s.Conn
	w.same("resends of the client", payloads(c.s), s.ClientResends)
	if s.ResendsLost {
		w.dead[s.Conn+"client"], w.dead[s.Conn+"node"] = true, true
		return
	}
	for _, data := range s.ClientResends {
		w.deliver(&w.node, data)
	}
	for _, data := range s.NodeResends {
		w.deliver(c, data)
	}
}

func (w *world) send(s vectors.ResumeStep) {
	from, to := w.party(s.From), &w.node
	if s.From == "node" {
		to = &w.client
	}
	if !s.Volatile {
		problem, gone := w.keep(s.From, from, s.Data)
		w.equal("error", problem, s.Error)
		w.same("unconfirmed of the node", gone, s.NodeUnconfirmed)
		if problem != "" {
			return
		}
	}
	if !w.arrives(s, from, to) {
		return
	}
	if s.Volatile {
		to.got = append(to.got, s.Data)
		return
	}
	w.deliver(to, s.Data)
}

// keep sends a reliable message, as far as the limits let it.
func (w *world) keep(who string, p *party, data string) (problem string, gone []string) {
	if p.s == nil {
		return "overflow", nil
	}
	if _, err := p.s.Send([]byte("\x01" + data)); err == nil {
		return "", nil
	}
	if who == "client" || p.conn != "" {
		return "full", nil
	}
	gone = payloads(p.s)
	w.prevName, w.prevWhy = p.name, proto.ResetOverflow
	p.name, p.s = "", nil
	return "overflow", gone
}

// arrives says whether what is sent reaches the other side, and holds the
// story to what connections can do: no order but the one, nothing after a loss.
func (w *world) arrives(s vectors.ResumeStep, from, to *party) bool {
	if from.conn == "" {
		w.wantf(!s.Lost, "nothing is lost that is not sent yet")
		return false
	}
	key := from.conn + s.From
	if s.Lost {
		w.dead[key] = true
		return false
	}
	w.wantf(from.conn == to.conn && !w.dead[key], "it cannot arrive: something before it did not")
	return true
}

// deliver takes a message in; the applications of these stories handle each
// at once.
func (w *world) deliver(p *party, data string) {
	p.s.Receive()
	p.s.Handled(len(data))
	p.got = append(p.got, data)
}

func (w *world) ack(s vectors.ResumeStep) {
	from, to := w.party(s.From), &w.node
	if s.From == "node" {
		to = &w.client
	}
	if !s.Hostile {
		w.equal("count", s.Count, from.s.TakeAck())
	}
	if !w.arrives(s, from, to) {
		return
	}
	var code proto.CloseCode
	if to.s.Ack(s.Count) != nil {
		code = proto.CloseProtocolError
		from.conn, to.conn = "", ""
	}
	w.equal("close code", code, s.Close)
}

func (w *world) cut(s vectors.ResumeStep) {
	if s.SeenBy != "client" {
		w.wantf(w.node.conn == s.Conn, "it is not the node's connection")
		w.node.conn = ""
	}
	if s.SeenBy != "node" && w.client.conn == s.Conn {
		w.client.conn = ""
	}
}

func (w *world) party(name string) *party {
	switch name {
	case "client":
		return &w.client
	case "node":
		return &w.node
	}
	w.t.Fatalf("%s: no such side: %q", w.at, name)
	return nil
}

func payloads(s *stream.Stream) []string {
	if s == nil {
		return nil
	}
	var list []string
	for _, f := range s.Unacked() {
		list = append(list, string(f[1:]))
	}
	return list
}

func (w *world) wantf(ok bool, why string) {
	w.t.Helper()
	if !ok {
		w.t.Fatalf("%s: %s", w.at, why)
	}
}

func (w *world) equal(what string, got, want any) {
	w.t.Helper()
	if got != want {
		w.t.Fatalf("%s: %s: %v and %v", w.at, what, got, want)
	}
}

func (w *world) same(what string, got, want []string) {
	w.t.Helper()
	if !slices.Equal(got, want) {
		w.t.Fatalf("%s: %s: got %q, want %q", w.at, what, got, want)
	}
}
