package stream_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/proto/stream"
)

// half is one side: its stream, the queue of messages that were accepted and not
// handled, and what the test records for its checks.
type half struct {
	*stream.Stream
	next      uint64 // number of the next frame to write to the connection
	queue     [][]byte
	delivered uint64
	sizes     []int // of all messages ever sent
}

// wire carries frames and acknowledgements in one direction; a cut empties it.
type wire struct {
	frames [][]byte // a frame, or nil for an acknowledgement
	acks   []uint64 // the count of an acknowledgement
}

// link is two halves and the connection between them.
type link struct {
	side [2]half
	to   [2]wire // to[i] carries to side[i]
	up   bool
}

// Two streams over a connection that is cut and resumed at random, with handshakes
// whose welcome may be lost: each direction delivers exactly once and in order, keeps
// no more than its limits, never refuses a count of the honest peer, and refuses every
// impossible count without a change.
func TestExactlyOnceInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := stream.Limits{
			Messages: rapid.IntRange(1, 40).Draw(t, "messages"), Bytes: rapid.IntRange(16, 400).Draw(t, "bytes"),
		}
		l := &link{up: true}
		for i := range l.side {
			l.side[i] = half{Stream: &stream.Stream{Limits: limits}, next: 1}
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
var steps = strings.Fields("send send send write write write read read read handle handle ack ack cut resume resume hostile")

func (l *link) step(t *rapid.T, step string, side int) {
	switch step {
	case "send":
		l.send(t, side, rapid.IntRange(8, 64).Draw(t, "size"))
	case "write":
		l.write(side)
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

// write puts the next frame on the wire.
func (l *link) write(i int) {
	h := &l.side[i]
	if f := h.Frame(h.next); l.up && f != nil {
		h.next++
		l.put(1-i, f, 0)
	}
}

func (l *link) put(to int, frame []byte, ack uint64) {
	w := &l.to[to]
	w.frames, w.acks = append(w.frames, frame), append(w.acks, ack)
}

// read processes the next item on the wire.
func (l *link) read(t *rapid.T, i int) {
	h, w := &l.side[i], &l.to[i]
	if len(w.frames) == 0 {
		return
	}
	frame, ack := w.frames[0], w.acks[0]
	w.frames, w.acks = w.frames[1:], w.acks[1:]
	if frame == nil {
		if err := h.Ack(ack); err != nil {
			t.Fatalf("an honest acknowledgement was refused: %v", err)
		}
		return
	}
	h.Receive()
	h.queue = append(h.queue, frame)
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
}

func (l *link) ack(i int) {
	if pending, _ := l.side[i].AckDue(); pending && l.up {
		l.put(1-i, nil, l.side[i].TakeAck())
	}
}

func (l *link) cut() {
	l.up = false
	l.to = [2]wire{}
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
	h.next = h.Acked() + 1
}

func (l *link) hostile(t *rapid.T, i int, count uint64) {
	h := &l.side[i]
	acked, sent := h.Acked(), h.Sent()
	if count >= acked && count <= sent {
		return // a possible count
	}
	kept, bytes := usage(h.Stream)
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
		me, peer := &l.side[i], &l.side[1-i]
		for me.Acked() < me.Sent() || peer.delivered < me.Sent() {
			before := me.Acked() + peer.delivered + me.next
			l.write(i)
			for len(l.to[1-i].frames) > 0 {
				l.read(t, 1-i)
			}
			l.handle(t, 1-i)
			l.ack(1 - i)
			for len(l.to[i].frames) > 0 {
				l.read(t, i)
			}
			if me.Acked()+peer.delivered+me.next == before {
				t.Fatalf("stuck at %d of %d", me.Acked(), me.Sent())
			}
		}
		if messages, bytes := usage(me.Stream); messages != 0 || bytes != 0 {
			t.Fatalf("keeps %d messages of %d bytes", messages, bytes)
		}
	}
}

func usage(s *stream.Stream) (messages, bytes int) {
	for _, f := range s.Unacked() {
		bytes += len(f) - 1
	}
	return len(s.Unacked()), bytes
}
