package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
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
	got  int    // texts of the client, on this connection
	next uint64 // number of the next frame to write
	dead bool   // what the client sends no longer counts
}

// reset resets the TCP connection.
func reset(raw net.Conn) {
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

// serve serves the session on the connection, with the fault of the step.
func (c *conn) serve(ctx context.Context, st step, received uint64) {
	switch {
	case st.refuse != 0:
		c.note("close %d in place of a welcome", st.refuse)
		_ = c.ws.Close(websocket.StatusCode(st.refuse), st.refuse.String())
		return
	case st.silent:
		c.note("no welcome")
		c.untilClosed(ctx, "it did not abandon the connection without a welcome")
		return
	case st.garbage != "":
		c.note("sends in place of a welcome: %s", st.garbage)
		_ = c.ws.Write(ctx, websocket.MessageText, []byte(st.garbage))
		c.n.stop()
		c.awaitProtocolError(ctx)
		return
	}
	time.Sleep(st.delay)
	if !c.welcome(ctx, st, received) {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cancel()
	writer.Go(func() { c.write(ctx) })
	if st.after == 0 && st.cut {
		c.fault(ctx, st)
		return
	}
	c.read(ctx, st)
}

func (c *conn) note(format string, args ...any) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	c.n.note(format, args...)
}

// welcome makes c the connection of the run and sends the welcome. It returns false if
// the connection is closed.
func (c *conn) welcome(ctx context.Context, st step, received uint64) bool {
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
	case n.stream != nil && st.reset == "":
		_ = n.stream.Ack(received) // checkQuery has checked it
		n.stream.Resumed()
		w.Resumed, w.Stream, w.Received = true, n.name, n.stream.Received()
	default:
		if n.stream != nil {
			n.resets++
		}
		n.stream = &stream.Stream{Limits: limits}
		n.name = fmt.Sprint("stream-", n.attempts)
		w.Stream, w.Reason = n.name, st.reset
	}
	old := n.conn
	if old != nil {
		old.dead = true
		if n.leaving == old {
			n.note("the old connection was open until the welcome")
			n.leaving = nil
		}
	} else if n.leaving != nil {
		n.wrong("it closed the old connection before the welcome of the new one")
	}
	n.conn = c
	c.next = n.stream.Acked() + 1
	n.note("welcome: resumed %v, received %d", w.Resumed, w.Received)
	n.mu.Unlock()
	if old != nil {
		go func() { // the client has a second to close it
			time.Sleep(time.Second)
			_ = old.ws.Close(websocket.StatusCode(proto.CloseReplaced), "replaced")
		}()
	}
	return c.ws.Write(ctx, websocket.MessageText, proto.AppendControl(nil, proto.Control{Type: proto.TypeWelcome, Welcome: w})) == nil
}

// write sends the messages that were not acknowledged, and a new text every 20 ms until
// all are sent.
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
		if due, _ := n.stream.AckDue(); due {
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

// read handles the messages of the client until the connection or the run ends.
func (c *conn) read(ctx context.Context, st step) {
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
		pong, ok := c.handle(typ, b)
		done := c.n.complete()
		due := typ == websocket.MessageBinary && c.got == st.after
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
		if st.after > 0 && due && c.fault(ctx, st) {
			return
		}
	}
}

// handle handles a message of the client. It returns the answer to a ping, and false if
// the message breaks the protocol. n.mu is held.
func (c *conn) handle(typ websocket.MessageType, b []byte) (pong []byte, ok bool) {
	n := c.n
	if typ == websocket.MessageBinary {
		m, err := proto.ParseMessage(b)
		if err != nil {
			n.wrong("invalid message: %v", err)
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
		n.wrong("invalid control: %v", err)
		return nil, false
	case ctl.Type == proto.TypeAck:
		if err := n.stream.Ack(ctl.Received); err != nil {
			n.wrong("it acknowledged %d: %v", ctl.Received, err)
			return nil, false
		}
	case ctl.Type == proto.TypePing:
		return proto.AppendControl(nil, proto.Control{Type: proto.TypePong, ID: ctl.ID}), true
	}
	return nil, true
}

// fault executes the fault of the step. It reports whether the connection has ended.
func (c *conn) fault(ctx context.Context, st step) (ended bool) {
	n := c.n
	detach := func() {
		n.mu.Lock()
		c.dead = true
		if n.conn == c {
			n.conn = nil
		}
		n.mu.Unlock()
	}
	switch {
	case st.cut:
		c.note("cut")
		detach()
		reset(c.raw)
	case st.midFrame:
		c.note("cut in the middle of a frame")
		detach()
		_, _ = c.raw.Write([]byte{0x82, 100, 1, 'h', 'a', 'l', 'f'})
		time.Sleep(50 * time.Millisecond)
		reset(c.raw)
	case st.halfOpen:
		c.note("half-open")
		detach()
		c.untilClosed(ctx, "it did not abandon the half-open connection")
	case st.close != 0:
		c.note("close %d", st.close)
		detach()
		_ = c.ws.Close(websocket.StatusCode(st.close), st.close.String())
		if n.sc.stops != 0 {
			n.stop()
		}
	case st.goaway:
		n.mu.Lock()
		n.leaving = c
		n.note("goaway")
		n.mu.Unlock()
		_ = c.ws.Write(ctx, websocket.MessageText, proto.AppendControl(nil, proto.Control{
			Type: proto.TypeGoAway, GoAway: proto.GoAway{Reason: "drain", AfterMS: 50, ByMS: 5000},
		}))
		return false
	case st.send != "":
		c.note("sends %s", st.send)
		_ = c.ws.Write(ctx, websocket.MessageText, []byte(st.send))
		if n.sc.stops == 0 {
			return false
		}
		detach()
		n.stop()
		c.awaitProtocolError(ctx)
	default:
		return false
	}
	return true
}

// untilClosed waits until the client abandons a silent connection: after 2.5 ping
// intervals, or after 5 s without a welcome. fault is the fault of a client that does
// not within 8 s.
func (c *conn) untilClosed(ctx context.Context, fault string) {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	for {
		if _, _, err := c.ws.Read(ctx); err != nil {
			if ctx.Err() != nil {
				c.n.fault("%s within 8 s", fault)
			} else {
				c.note("the client has abandoned the connection")
			}
			return
		}
	}
}

// awaitProtocolError waits until the client closes with 4000.
func (c *conn) awaitProtocolError(ctx context.Context) {
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
			c.note("the client has closed with 4000")
		}
		return
	}
}

// closed records that the client has closed the connection, or lost it.
func (c *conn) closed(err error) {
	n := c.n
	n.mu.Lock()
	defer n.mu.Unlock()
	code := websocket.CloseStatus(err)
	n.note("the connection has ended, code %d", code)
	if n.conn == c {
		n.conn = nil
		if !errors.Is(err, context.Canceled) && code == websocket.StatusCode(proto.CloseProtocolError) {
			n.wrong("it closed with 4000 without a reason")
		}
	}
}

// end closes the connection at the end of the run.
func (c *conn) end(code proto.CloseCode) { _ = c.ws.Close(websocket.StatusCode(code), code.String()) }
