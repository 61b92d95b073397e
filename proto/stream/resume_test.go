package stream_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
	"github.com/usher-broker/usher/proto/vectors"
)

// TestResumeVectors plays the scenarios of resume.json with two Streams, and with
// models of the node and the client that follow PROTOCOL.md.
func TestResumeVectors(t *testing.T) {
	for _, v := range vectors.Resumes() {
		t.Run(v.Name, func(t *testing.T) {
			w := &model{t: t, limits: stream.Limits{Messages: v.Limits.Messages, Bytes: v.Limits.Bytes}, dead: map[string]bool{}}
			for i, step := range v.Steps {
				w.at = fmt.Sprintf("step %d, %s", i, step.Op)
				w.step(step)
			}
			if v.Steps[len(v.Steps)-1].Op != vectors.OpDelivered {
				t.Error("the last step of the scenario is not \"delivered\"")
			}
		})
	}
}

// party is the state of one side of the session.
type party struct {
	name string // of the stream
	s    *stream.Stream
	conn string // "" while detached
	got  []string
}

type model struct {
	t      *testing.T
	at     string
	limits stream.Limits
	client party

	node       party
	attempt    *uint64 // of node.conn
	lost       bool    // the node has lost its memory
	record     string  // the stream in the store's record
	ended      bool
	prevName   string // the stream before the current one
	prevReason string // why it ended

	dead map[string]bool // connection and sender after which nothing arrives any more
}

func (w *model) step(s vectors.ResumeStep) {
	switch s.Op {
	case vectors.OpAttach:
		w.attach(s)
	case vectors.OpSend:
		w.send(s)
	case vectors.OpAck:
		w.ack(s)
	case vectors.OpArrive:
		w.wantf(s.Conn != w.node.conn, "the frame arrives on the connection of the session")
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

// attach plays the handshake on the node and, unless it is lost, on the client.
func (w *model) attach(s vectors.ResumeStep) {
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
		w.prevName, w.prevReason = w.node.name, proto.ResetUnknown
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

// decide is the decision of the node. When the stream resumes, the node discards
// the messages that the client has received.
func (w *model) decide(s vectors.ResumeStep) (outcome, reason string, code proto.CloseCode) {
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
		return vectors.OutcomeReset, w.prevReason, 0
	}
	return vectors.OutcomeReset, proto.ResetUnknown, 0
}

// welcomed plays the client's side of a handshake that succeeded.
func (w *model) welcomed(s vectors.ResumeStep) {
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

func (w *model) send(s vectors.ResumeStep) {
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

// keep sends a reliable message if the limits allow it. Otherwise it returns the
// error, and the unconfirmed messages of a stream that ended.
func (w *model) keep(who string, p *party, data string) (problem string, gone []string) {
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
	w.prevName, w.prevReason = p.name, proto.ResetOverflow
	p.name, p.s = "", nil
	return "overflow", gone
}

// arrives reports whether a message reaches the other side. It fails the test if
// the scenario is impossible on a connection, which keeps the order and delivers
// nothing after a loss.
func (w *model) arrives(s vectors.ResumeStep, from, to *party) bool {
	if from.conn == "" {
		w.wantf(!s.Lost, "a message that is not written yet cannot be lost")
		return false
	}
	key := from.conn + s.From
	if s.Lost {
		w.dead[key] = true
		return false
	}
	w.wantf(from.conn == to.conn && !w.dead[key], "it cannot arrive: an earlier message did not")
	return true
}

// deliver accepts a message. The applications of these scenarios handle each
// message at once.
func (w *model) deliver(p *party, data string) {
	p.s.Receive()
	p.s.Handled(len(data))
	p.got = append(p.got, data)
}

func (w *model) ack(s vectors.ResumeStep) {
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

func (w *model) cut(s vectors.ResumeStep) {
	if s.SeenBy != "client" {
		w.wantf(w.node.conn == s.Conn, "the cut connection is not that of the node")
		w.node.conn = ""
	}
	if s.SeenBy != "node" && w.client.conn == s.Conn {
		w.client.conn = ""
	}
}

func (w *model) party(name string) *party {
	switch name {
	case "client":
		return &w.client
	case "node":
		return &w.node
	}
	w.t.Fatalf("%s: unknown side %q", w.at, name)
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

func (w *model) wantf(ok bool, why string) {
	w.t.Helper()
	if !ok {
		w.t.Fatalf("%s: %s", w.at, why)
	}
}

func (w *model) equal(what string, got, want any) {
	w.t.Helper()
	if got != want {
		w.t.Fatalf("%s: %s: %v, expected %v", w.at, what, got, want)
	}
}

func (w *model) same(what string, got, want []string) {
	w.t.Helper()
	if !slices.Equal(got, want) {
		w.t.Fatalf("%s: %s: got %q, want %q", w.at, what, got, want)
	}
}
