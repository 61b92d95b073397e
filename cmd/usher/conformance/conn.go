package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// conn is one WebSocket of a run.
type conn struct {
	n    *run
	raw  net.Conn
	ws   *websocket.Conn
	got  int // texts of the client, on this connection
	next uint64
	dead bool // nothing of it counts any more
}

func cutOff(raw net.Conn) {
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = raw.Close()
}

func open(n *run, raw net.Conn, w http.ResponseWriter, r *http.Request) (*conn, error) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{proto.Subprotocol}, InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(1 << 20)
	return &conn{n: n, raw: raw, ws: ws}, nil
}

// play does what the act says, and serves the session.
func (c *conn) play(ctx context.Context, a act, received uint64) {
	switch {
	case a.refuse != 0:
		c.note("closed with %d before a welcome", a.refuse)
		_ = c.ws.Close(websocket.StatusCode(a.refuse), a.refuse.String())
		return
	case a.silent:
		c.note("not a word")
		c.untilClosed(ctx, "no welcome came")
		return
	case a.garbage != "":
		c.note("in place of a welcome: %s", a.garbage)
		_ = c.ws.Write(ctx, websocket.MessageText, []byte(a.garbage))
		c.n.stop()
		c.wantClose(ctx)
		return
	}
	time.Sleep(a.delay)
	if !c.welcome(ctx, a, received) {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go c.write(ctx)
	if a.after == 0 && a.cut {
		c.fault(ctx, a)
		return
	}
	c.read(ctx, a)
}

func (c *conn) note(format string, args ...any) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	c.n.note(format, args...)
}

// welcome makes c the run's connection.
func (c *conn) welcome(ctx context.Context, a act, received uint64) bool {
	n := c.n
	n.mu.Lock()
	if n.over {
		n.mu.Unlock()
		_ = c.ws.Close(websocket.StatusCode(proto.CloseSessionEnded), "session_ended")
		return false
	}
	w := proto.Welcome{
		Session: n.sid, Node: n.node, PingIntervalMS: 400, ResumeWindowMS: 60_000, MaxMessageBytes: 64 << 10,
		MaxUnackedBytes: limits.Bytes, MaxUnackedMessages: limits.Messages, TokenExpiresAt: time.Now().Add(time.Hour).UTC(),
	}
	switch {
	case n.stream != nil && a.reset == "":
		_ = n.stream.Ack(received) // checkQuery has looked
		n.stream.Resumed()
		w.Resumed, w.Stream, w.Received = true, n.name, n.stream.Received()
	default:
		if n.stream != nil {
			n.resets++
		}
		n.stream = &stream.Stream{Limits: limits}
		n.name = fmt.Sprint("stream-", n.attempts)
		w.Stream, w.Reason = n.name, a.reset
	}
	old := n.conn
	if old != nil {
		old.dead = true
		if n.leaving == old {
			n.note("the old connection was open until now")
			n.leaving = nil
		}
	} else if n.leaving != nil {
		n.wrong("it closed the old connection before the new one had its welcome")
	}
	n.conn = c
	c.next = n.stream.Acked() + 1
	n.note("welcome: resumed %v, received %d", w.Resumed, w.Received)
	n.mu.Unlock()
	if old != nil {
		go func() { // the client closes it, or it is closed for it
			time.Sleep(time.Second)
			_ = old.ws.Close(websocket.StatusCode(proto.CloseReplaced), "replaced")
		}()
	}
	return c.ws.Write(ctx, websocket.MessageText, proto.AppendControl(nil, proto.Control{Type: proto.TypeWelcome, Welcome: w})) == nil
}

// write sends what is kept, and a text every 20 ms until all are sent.
func (c *conn) write(ctx context.Context) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		n := c.n
		n.mu.Lock()
		if c.dead {
			n.mu.Unlock()
			return
		}
		if !n.sentAll() {
			text := "n" + strconv.FormatUint(n.stream.Sent()+1, 10)
			_, _ = n.stream.Send(proto.AppendMessage(nil, proto.Message{Text: true, Data: []byte(text)}))
		}
		var frames [][]byte
		for f := n.stream.Frame(c.next); f != nil; f = n.stream.Frame(c.next) {
			frames = append(frames, f)
			c.next++
		}
		ack := uint64(0)
		if owed, _ := n.stream.AckDue(); owed {
			ack = n.stream.TakeAck()
		}
		n.mu.Unlock()
		for _, f := range frames {
			if c.ws.Write(ctx, websocket.MessageBinary, f) != nil {
				return
			}
		}
		if ack > 0 && c.ws.Write(ctx, websocket.MessageText, proto.AppendControl(nil, proto.Control{Type: proto.TypeAck, Received: ack})) != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// read takes in what the client sends, until the connection or the run is over.
func (c *conn) read(ctx context.Context, a act) {
	for {
		typ, b, err := c.ws.Read(ctx)
		if err != nil {
			c.closed(err)
			return
		}
		c.n.mu.Lock()
		if c.dead {
			c.n.mu.Unlock()
			continue
		}
		pong, ok := c.take(typ, b)
		done := c.n.complete()
		due := typ == websocket.MessageBinary && c.got == a.after
		c.n.mu.Unlock()
		if !ok {
			c.n.finish("it broke the protocol")
			return
		}
		if pong != nil {
			_ = c.ws.Write(ctx, websocket.MessageText, pong)
		}
		if done {
			c.n.finish("")
			return
		}
		if a.after > 0 && due && c.fault(ctx, a) {
			return
		}
	}
}

// take takes in a message of the client, and returns the answer to a ping. n.mu
// is held.
func (c *conn) take(typ websocket.MessageType, b []byte) (pong []byte, ok bool) {
	n := c.n
	if typ == websocket.MessageBinary {
		m, err := proto.ParseMessage(b)
		if err != nil {
			n.wrong("a message that cannot be: %v", err)
			return nil, false
		}
		if !m.Volatile {
			c.got++
			n.text(string(m.Data))
		}
		return nil, true
	}
	ctl, err := proto.ParseControl(b)
	switch {
	case err != nil:
		n.wrong("a control that cannot be: %v", err)
		return nil, false
	case ctl.Type == proto.TypeAck:
		if err := n.stream.Ack(ctl.Received); err != nil {
			n.wrong("it acknowledges %d, which cannot be", ctl.Received)
			return nil, false
		}
	case ctl.Type == proto.TypePing:
		return proto.AppendControl(nil, proto.Control{Type: proto.TypePong, ID: ctl.ID}), true
	}
	return nil, true
}

// fault does what ends the connection, and reports whether it has.
func (c *conn) fault(ctx context.Context, a act) (ended bool) {
	n := c.n
	gone := func() {
		n.mu.Lock()
		c.dead = true
		if n.conn == c {
			n.conn = nil
		}
		n.mu.Unlock()
	}
	switch {
	case a.cut:
		c.note("cut")
		gone()
		cutOff(c.raw)
	case a.midFrame:
		c.note("cut in the middle of a frame")
		gone()
		_, _ = c.raw.Write([]byte{0x82, 100, 1, 'h', 'a', 'l', 'f'})
		time.Sleep(50 * time.Millisecond)
		cutOff(c.raw)
	case a.halfOpen:
		c.note("silent from now on, and open")
		gone()
		c.untilClosed(ctx, "it did not give the connection up")
	case a.close != 0:
		c.note("closed with %d", a.close)
		gone()
		_ = c.ws.Close(websocket.StatusCode(a.close), a.close.String())
		if n.sc.stops != 0 {
			n.stop()
		}
	case a.goaway:
		n.mu.Lock()
		n.leaving = c
		n.note("goaway")
		n.mu.Unlock()
		_ = c.ws.Write(ctx, websocket.MessageText, proto.AppendControl(nil, proto.Control{
			Type: proto.TypeGoAway, GoAway: proto.GoAway{Reason: "drain", AfterMS: 50, ByMS: 5000},
		}))
		return false
	case a.say != "":
		c.note("says %s", a.say)
		_ = c.ws.Write(ctx, websocket.MessageText, []byte(a.say))
		if n.sc.stops == 0 {
			return false
		}
		gone()
		n.stop()
		c.wantClose(ctx)
	default:
		return false
	}
	return true
}

// untilClosed waits until the client gives a silent connection up: after 2.5 ping
// intervals, or after 5 s without a welcome.
func (c *conn) untilClosed(ctx context.Context, or string) {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	for {
		if _, _, err := c.ws.Read(ctx); err != nil {
			if ctx.Err() != nil {
				c.n.fault("%s within 8 s", or)
			} else {
				c.note("the client gives the connection up")
			}
			return
		}
	}
}

// wantClose waits for the client to close with 4000.
func (c *conn) wantClose(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for {
		_, _, err := c.ws.Read(ctx)
		if err == nil {
			continue
		}
		if code := websocket.CloseStatus(err); code != websocket.StatusCode(proto.CloseProtocolError) {
			c.n.fault("it closed with %d, not with 4000 (%v)", code, err)
		} else {
			c.note("the client closes with 4000")
		}
		return
	}
}

// closed takes in that the client has closed, or is gone.
func (c *conn) closed(err error) {
	n := c.n
	n.mu.Lock()
	defer n.mu.Unlock()
	code := websocket.CloseStatus(err)
	n.note("the connection has ended: %d", code)
	if n.conn == c {
		n.conn = nil
		if !errors.Is(err, context.Canceled) && code == websocket.StatusCode(proto.CloseProtocolError) {
			n.wrong("it closed with 4000, and there was no reason")
		}
	}
}

// end closes the connection at the end of the run.
func (c *conn) end(code proto.CloseCode) { _ = c.ws.Close(websocket.StatusCode(code), code.String()) }
