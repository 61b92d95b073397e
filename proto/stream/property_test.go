package stream_test

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/proto/stream"
)

// half is one side: its stream and outbox, the queue of messages that were accepted
// and not handled, and what the test records for its checks.
type half struct {
	*stream.Stream
	out       stream.Outbox
	limit     uint64 // the reliable frames above it are held back
	queue     [][]byte
	delivered uint64
	resumed   uint64 // the count of the last handshake
	sizes     []int  // of all reliable messages ever sent
	volatile  volatileCounts
}

// volatileCounts are the numbers of volatile messages of one side.
type volatileCounts struct {
	sent    uint64
	dropped int    // by the outbox
	lost    int    // on the wire
	arrived int    // at the peer
	last    uint64 // the number of the last one that arrived
}

// wire carries items in one direction; a cut empties it.
type wire []stream.Item

// link is two halves and the connection between them.
type link struct {
	side [2]half
	to   [2]wire // to[i] carries to side[i]
	up   bool
}

// The kind byte of a frame of the test. A reliable one continues with its number. A
// volatile one continues with its own number, and the number of reliable messages that
// were sent before it.
const (
	reliable = iota
	volatile
)

// Two streams over a connection that is cut and resumed at random, with handshakes
// whose welcome may be lost: each direction delivers reliable messages exactly once and
// in order, volatile ones at most once and in their place between the others, keeps no
// more than its limits, counts what it drops, never refuses a count of the honest peer,
// and refuses every impossible count without a change.
func TestExactlyOnceInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := stream.Limits{
			Messages: rapid.IntRange(1, 40).Draw(t, "messages"), Bytes: rapid.IntRange(16, 400).Draw(t, "bytes"),
		}
		l := &link{up: true}
		for i := range l.side {
			h := &l.side[i]
			h.Stream, h.limit = &stream.Stream{Limits: limits}, math.MaxUint64
			h.out.Begin(h.Stream)
		}
		which := rapid.IntRange(0, 1)
		for range rapid.IntRange(200, 400).Draw(t, "steps") {
			l.step(t, rapid.SampledFrom(steps).Draw(t, "step"), which.Draw(t, "side"))
			l.check(t)
		}
		l.drain(t)
	})
}

// steps are drawn with equal probability: traffic is more frequent than faults.
var steps = strings.Fields(`send send send write write write read read read handle handle ack ack
	volatile volatile volatile burst hold release cut resume resume hostile`)

func (l *link) step(t *rapid.T, step string, side int) {
	switch step {
	case "send":
		l.send(t, side, rapid.IntRange(8, 64).Draw(t, "size"))
	case "volatile":
		l.sendVolatile(t, side, rapid.SampledFrom([]int{17, 20, 100, 5000, 70_000}).Draw(t, "size"))
	case "burst":
		for range rapid.IntRange(1, 300).Draw(t, "messages") {
			l.sendVolatile(t, side, 17)
		}
	case "hold":
		l.side[side].limit = rapid.Uint64Range(0, l.side[side].Sent()+1).Draw(t, "limit")
	case "release":
		l.side[side].limit = math.MaxUint64
	case "write":
		l.write(t, side)
	case "read":
		l.read(t, side)
	case "handle":
		l.handle(t, side)
	case "ack":
		l.ack(side)
	case "cut":
		l.cut()
	case "resume":
		l.resume(t, rapid.IntRange(0, 3).Draw(t, "lost") == 0)
	case "hostile":
		l.hostile(t, side, rapid.Uint64().Draw(t, "count"))
		l.hostile(t, side, rapid.Uint64Range(0, l.side[side].Sent()+1).Draw(t, "near count"))
	}
}

func (l *link) send(t *rapid.T, i, size int) {
	h := &l.side[i]
	frame := make([]byte, 1+size)
	binary.BigEndian.PutUint64(frame[1:], h.Sent()+1)
	kept, bytes := usage(h.Stream)
	n, err := h.Send(frame)
	full := kept >= h.Limits.Messages || bytes+size > h.Limits.Bytes
	if full != errors.Is(err, stream.ErrFull) || !full && n != uint64(len(h.sizes)+1) {
		t.Fatalf("sent %d bytes with %d kept in %d messages: number %d, %v", size, bytes, kept, n, err)
	}
	if !full {
		h.sizes = append(h.sizes, size)
	}
}

func (l *link) sendVolatile(t *rapid.T, i, size int) {
	h := &l.side[i]
	frame := make([]byte, size)
	frame[0] = volatile
	h.volatile.sent++
	binary.BigEndian.PutUint64(frame[1:], h.volatile.sent)
	binary.BigEndian.PutUint64(frame[9:], h.Sent())
	before, _ := h.out.Volatiles()
	dropped := h.out.PushVolatile(frame)
	h.volatile.dropped += dropped
	n, bytes := h.out.Volatiles()
	if n != before+1-dropped || n > stream.MaxVolatiles || n > 1 && bytes > stream.MaxVolatileBytes {
		t.Fatalf("%d volatile frames of %d bytes wait, %d before, and %d were dropped", n, bytes, before, dropped)
	}
}

// write puts the next item on the wire.
func (l *link) write(t *rapid.T, i int) {
	h := &l.side[i]
	if !l.up {
		return
	}
	waits, messageWaits := h.out.Waits(h.limit), h.out.MessageWaits(h.limit)
	item := h.out.Next(h.limit)
	if waits != (item.Kind != stream.Nothing) || item.Kind == stream.Message && !messageWaits {
		t.Fatalf("waits: %t, a message: %t, and there is an item of kind %d", waits, messageWaits, item.Kind)
	}
	switch {
	case item.Kind == stream.Nothing:
		return
	case item.Kind == stream.Ack && item.Received > max(h.HandledCount(), h.resumed):
		t.Fatalf("acknowledges %d, and has handled %d", item.Received, h.HandledCount())
	case item.Kind == stream.Message && item.Frame[0] == reliable && h.out.Written() > h.limit:
		t.Fatalf("message %d was written, above the limit %d", h.out.Written(), h.limit)
	}
	l.to[1-i] = append(l.to[1-i], item)
}

// read processes the next item on the wire.
func (l *link) read(t *rapid.T, i int) {
	h, w := &l.side[i], &l.to[i]
	if len(*w) == 0 {
		return
	}
	item := (*w)[0]
	*w = (*w)[1:]
	switch {
	case item.Kind == stream.Ack:
		if err := h.out.Ack(item.Received); err != nil {
			t.Fatalf("an honest acknowledgement was refused: %v", err)
		}
	case item.Frame[0] == volatile:
		l.side[1-i].volatile.arrive(t, item.Frame, h.Received())
	default:
		h.Receive()
		h.queue = append(h.queue, item.Frame)
	}
}

// arrive checks a volatile frame that reaches the peer, which has received so many
// reliable messages.
func (c *volatileCounts) arrive(t *rapid.T, frame []byte, received uint64) {
	n, after := binary.BigEndian.Uint64(frame[1:]), binary.BigEndian.Uint64(frame[9:])
	if n <= c.last || after != received {
		t.Fatalf("the volatile message %d came after %d and the reliable message %d, and was sent after %d", n, c.last, received, after)
	}
	c.last = n
	c.arrived++
}

// handle makes the application handle its oldest message.
func (l *link) handle(t *rapid.T, i int) {
	h := &l.side[i]
	if len(h.queue) == 0 {
		return
	}
	frame := h.queue[0]
	h.queue = h.queue[1:]
	h.delivered++
	if n := binary.BigEndian.Uint64(frame[1:]); n != h.delivered {
		t.Fatalf("message %d was delivered as number %d", n, h.delivered)
	}
	h.Handled(len(frame) - 1)
	h.out.Acknowledge()
}

// ack is the timer of a delayed acknowledgement.
func (l *link) ack(i int) { l.side[i].out.WantAck() }

func (l *link) cut() {
	l.up = false
	for i := range l.side {
		h, w := &l.side[i], &l.to[1-i]
		h.volatile.dropped += h.out.End()
		h.volatile.lost += w.volatiles()
		*w = nil
	}
}

// volatiles returns the number of volatile messages on the wire.
func (w wire) volatiles() (n int) {
	for _, item := range w {
		if item.Kind == stream.Message && item.Frame[0] == volatile {
			n++
		}
	}
	return n
}

// resume is the handshake: side 0 is the client, which sends first. If the welcome is
// lost, only the node has received a count.
func (l *link) resume(t *rapid.T, lost bool) {
	l.cut()
	client, node := &l.side[0], &l.side[1]
	node.applyCount(t, client.Received())
	if !lost {
		client.applyCount(t, node.Received())
		l.up = true
	}
}

// applyCount applies the other side's count of a handshake.
func (h *half) applyCount(t *rapid.T, received uint64) {
	if err := h.Ack(received); err != nil {
		t.Fatalf("an honest handshake was refused: %v", err)
	}
	h.Resumed()
	h.resumed = h.Received()
	h.out.Begin(h.Stream)
}

func (l *link) hostile(t *rapid.T, i int, count uint64) {
	h := &l.side[i]
	acked, sent := h.Acked(), h.Sent()
	if count >= acked && count <= h.out.Written() {
		return // a possible count
	}
	kept, bytes := usage(h.Stream)
	if err := h.out.Ack(count); !errors.Is(err, stream.ErrCount) {
		t.Fatalf("count %d of %d to %d: %v", count, acked, h.out.Written(), err)
	}
	if count >= acked && count <= sent {
		return // possible at the start of a connection
	}
	if err := h.Ack(count); !errors.Is(err, stream.ErrCount) {
		t.Fatalf("count %d of %d to %d: %v", count, acked, sent, err)
	}
	if k, b := usage(h.Stream); h.Acked() != acked || h.Sent() != sent || k != kept || b != bytes {
		t.Fatalf("count %d changed the stream", count)
	}
}

func (l *link) check(t *rapid.T) {
	for i := range l.side {
		me, peer := &l.side[i], &l.side[1-i]
		messages, bytes := usage(me.Stream)
		if messages > me.Limits.Messages || bytes > me.Limits.Bytes {
			t.Fatalf("%d messages of %d bytes are kept, over the limits %+v", messages, bytes, me.Limits)
		}
		if me.HandledCount() > me.Received() || me.Received() > peer.Sent() || me.Acked() > peer.Received() {
			t.Fatalf("handled %d, received %d, sent %d, acknowledged %d", me.HandledCount(), me.Received(), peer.Sent(), me.Acked())
		}
		waiting, _ := me.out.Volatiles()
		if c := me.volatile; int(c.sent) != c.dropped+c.lost+c.arrived+waiting+l.to[1-i].volatiles() {
			t.Fatalf("volatile messages: %+v, %d wait, %d are on the wire", c, waiting, l.to[1-i].volatiles())
		}
		for k, f := range me.Unacked() {
			if n := me.Acked() + uint64(k) + 1; len(f)-1 != me.sizes[n-1] || binary.BigEndian.Uint64(f[1:]) != n {
				t.Fatalf("the frame kept as number %d is number %d", n, binary.BigEndian.Uint64(f[1:]))
			}
		}
	}
}

// drain stops the faults: all sent messages arrive, and no message is kept.
func (l *link) drain(t *rapid.T) {
	l.resume(t, false)
	for i := range l.side {
		l.side[i].limit = math.MaxUint64
		l.sendVolatile(t, i, 17)
	}
	for i := range l.side {
		me, peer := &l.side[i], &l.side[1-i]
		for me.Acked() < me.Sent() || peer.delivered < me.Sent() || me.out.Waits(me.limit) {
			before := me.Acked() + peer.delivered + me.out.Written() + me.volatile.last
			l.write(t, i)
			l.readAll(t, 1-i)
			l.handle(t, 1-i)
			l.ack(1 - i)
			l.write(t, 1-i)
			l.readAll(t, i)
			if me.Acked()+peer.delivered+me.out.Written()+me.volatile.last == before {
				t.Fatalf("stuck at %d of %d", me.Acked(), me.Sent())
			}
		}
		if messages, bytes := usage(me.Stream); messages != 0 || bytes != 0 {
			t.Fatalf("keeps %d messages of %d bytes", messages, bytes)
		}
		if me.volatile.last != me.volatile.sent {
			t.Fatalf("the volatile message %d did not arrive", me.volatile.sent)
		}
	}
}

func (l *link) readAll(t *rapid.T, i int) {
	for len(l.to[i]) > 0 {
		l.read(t, i)
	}
}

func usage(s *stream.Stream) (messages, bytes int) {
	for _, f := range s.Unacked() {
		bytes += len(f) - 1
	}
	return len(s.Unacked()), bytes
}
