package usher

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// If the node violates the protocol, the client ends its session and closes with the
// code.
func TestHostileNode(t *testing.T) {
	tests := map[string]struct {
		code proto.CloseCode
		do   func(p *peer)
	}{
		"ack above sent":      {4000, func(p *peer) { p.ack(3) }},
		"largest ack":         {4000, func(p *peer) { p.ack(proto.MaxCount) }},
		"ack below an ack":    {4000, func(p *peer) { p.ack(2); p.ack(1) }},
		"negative ack":        {4000, func(p *peer) { p.text(`{"type":"ack","received":-1}`) }},
		"ack beyond counts":   {4000, func(p *peer) { p.text(`{"type":"ack","received":18446744073709551617}`) }},
		"a second welcome":    {4000, func(p *peer) { p.welcome(nil) }},
		"goaway backwards":    {4000, func(p *peer) { p.text(`{"type":"goaway","reason":"drain","after_ms":2,"by_ms":1}`) }},
		"a message too large": {4004, func(p *peer) { p.write(websocket.MessageBinary, make([]byte, 102)) }},
		"a message much too large": {4004, func(p *peer) {
			go func() { _ = p.ws.Write(p.t.Context(), websocket.MessageBinary, make([]byte, 1<<20)) }()
		}},
		"a control too large": {4004, func(p *peer) { p.write(websocket.MessageText, make([]byte, 4097)) }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				s, p := w.attach()
				send(t, s, "a", "b")
				p.want("a", "b")
				tt.do(p)
				c := w.wantEnded(tt.code)
				if !errors.Is(c.Err, errProtocol) {
					t.Errorf("ended with %v", c.Err)
				}
				p.wantClose(tt.code)
				w.nodes["n1"].none(time.Minute)
			})
		})
	}
}

// The same for messages before the welcome, and for the welcome itself.
func TestHostileWelcome(t *testing.T) {
	welcome := func(change func(*proto.Welcome)) func(p *peer) { return func(p *peer) { p.welcome(change) } }
	tests := map[string]struct {
		code proto.CloseCode
		do   func(p *peer)
	}{
		"a message first":       {4000, func(p *peer) { p.send("x") }},
		"a control first":       {4000, func(p *peer) { p.ack(0) }},
		"an unknown type first": {4000, func(p *peer) { p.text(`{"type":"later"}`) }},
		"nonsense":              {4000, func(p *peer) { p.text(`welcome`) }},
		"too large":             {4004, func(p *peer) { p.write(websocket.MessageText, make([]byte, 4097)) }},
		"another session":       {4000, welcome(func(w *proto.Welcome) { w.Resumed, w.Session = true, "other" })},
		"another stream":        {4000, welcome(func(w *proto.Welcome) { w.Resumed, w.Stream = true, "s2" })},
		"a long stream name":    {4000, welcome(func(w *proto.Welcome) { w.Stream = fmt.Sprintf("%129d", 1) })},
		"received below an ack": {4000, welcome(func(w *proto.Welcome) { w.Resumed, w.Received = true, 0 })},
		"received too much":     {4000, welcome(func(w *proto.Welcome) { w.Resumed, w.Received = true, 3 })},
		"received everything":   {4000, welcome(func(w *proto.Welcome) { w.Resumed, w.Received = true, proto.MaxCount })},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, w *cluster) {
				s, p := w.attach()
				send(t, s, "a", "b")
				p.want("a", "b")
				p.ack(1)
				synctest.Wait()
				p.wire.cut()
				w.wantState(Detached)
				p = w.nodes["n1"].next().accept()
				tt.do(p)
				c := w.wantEnded(tt.code)
				if len(c.Unconfirmed) != 1 || string(c.Unconfirmed[0].Data) != "b" {
					t.Errorf("unconfirmed: %q", payloads(c.Unconfirmed))
				}
				p.wantClose(tt.code)
			})
		})
	}
}

// A node cannot resume a stream that the client did not name.
func TestHostileFirstWelcome(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		got := w.connect(w.config())
		w.nodes["n1"].next().accept().resume(0)
		if _, err := got(); !errors.Is(err, errProtocol) {
			t.Errorf("connect: %v", err)
		}
	})
}

// A node that sets the largest limits and floods the client cannot make it keep more
// than the limits of the inbox.
func TestFlood(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attachWith(w.config(), func(wel *proto.Welcome) {
			wel.MaxMessageBytes, wel.MaxUnackedBytes, wel.MaxUnackedMessages = proto.MaxSetting, proto.MaxSetting, proto.MaxSetting
		})
		go func() {
			m := proto.AppendMessage(nil, Message{Data: make([]byte, 1<<20)})
			for p.ws.Write(t.Context(), websocket.MessageBinary, m) == nil {
			}
		}()
		synctest.Wait()
		s.mu.Lock()
		bytes, stalled := s.inbox.bytes, s.conn.stalled
		s.mu.Unlock()
		if bytes > maxInboxBytes || !stalled {
			t.Errorf("keeps %d bytes, stalled %v", bytes, stalled)
		}
	})
}

// The number of pongs that wait for a node that pings and does not read is limited.
func TestPingFlood(t *testing.T) {
	inCluster(t, func(t *testing.T, w *cluster) {
		s, p := w.attach()
		p.wire.ends[0].slow()
		for id := range uint64(1000) {
			p.control(proto.Control{Type: proto.TypePing, ID: id})
		}
		synctest.Wait()
		s.mu.Lock()
		waiting := len(s.conn.pongs)
		s.mu.Unlock()
		if waiting > maxPongs {
			t.Errorf("%d pongs wait", waiting)
		}
		for id := range uint64(1000) {
			p.wantControl(fmt.Sprintf(`{"type":"pong","id":%d}`, id))
		}
	})
}
