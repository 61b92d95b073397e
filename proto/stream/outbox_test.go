package stream_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/usher-broker/usher/proto/stream"
)

func begin(s *stream.Stream) *stream.Outbox {
	o := &stream.Outbox{}
	o.Begin(s)
	return o
}

// items returns everything that o has to write, in order: frames, and "ack".
func items(o *stream.Outbox, limit uint64) []string {
	var list []string
	for {
		waits := o.Waits(limit)
		item := o.Next(limit)
		if waits != (item.Kind != stream.Nothing) {
			return append(list, "Waits was wrong")
		}
		switch item.Kind {
		case stream.Nothing:
			return list
		case stream.Ack:
			list = append(list, "ack")
		case stream.Message:
			list = append(list, string(item.Frame))
		}
	}
}

func expect(t *testing.T, o *stream.Outbox, limit uint64, want ...string) {
	t.Helper()
	if got := items(o, limit); !slices.Equal(got, want) {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

func handle(s *stream.Stream, messages int) {
	for range messages {
		s.Receive()
		s.Handled(1)
	}
}

func TestOutboxWritesInOrderOfSending(t *testing.T) {
	s := newStream(10, 100)
	o := begin(s)
	o.PushVolatile([]byte("v1"))
	mustSend(t, s, "r1", "r2")
	o.PushVolatile([]byte("v2"))
	o.PushVolatile([]byte("v3"))
	mustSend(t, s, "r3")
	handle(s, 1)
	if !o.WantAck() {
		t.Error("nothing to acknowledge")
	}
	expect(t, o, math.MaxUint64, "ack", "v1", "r1", "r2", "v2", "v3", "r3")
	if n := o.Written(); n != 3 {
		t.Errorf("%d were written", n)
	}
}

// The next connection gets the frames after the peer's count, and no volatile frames.
func TestOutboxBeginsAtTheCountOfThePeer(t *testing.T) {
	s := newStream(10, 100)
	o := begin(s)
	mustSend(t, s, "r1", "r2", "r3")
	o.PushVolatile([]byte("v1"))
	handle(s, 1)
	o.WantAck()
	if err := s.Ack(1); err != nil {
		t.Fatal(err)
	}
	s.Resumed()
	o.Begin(s)
	if n := o.Written(); n != 1 {
		t.Errorf("%d were written", n)
	}
	expect(t, o, math.MaxUint64, "r2", "r3")
}

func TestOutboxHoldsBackAboveTheLimit(t *testing.T) {
	s := newStream(10, 100)
	o := begin(s)
	mustSend(t, s, "r1", "r2", "r3")
	o.PushVolatile([]byte("v1"))
	for _, step := range []struct {
		limit uint64
		want  []string
	}{
		{0, nil},
		{2, []string{"r1", "r2"}},
		{1, nil}, // also if the limit falls
		{3, []string{"r3", "v1"}},
		{math.MaxUint64, nil},
	} {
		if waits := o.MessageWaits(step.limit); waits != (step.want != nil) {
			t.Errorf("limit %d: a message waits: %t", step.limit, waits)
		}
		expect(t, o, step.limit, step.want...)
	}
	handle(s, 1)
	o.WantAck()
	if o.MessageWaits(0) || !o.Waits(0) {
		t.Error("the acknowledgement is held back, or counts as a message")
	}
	expect(t, o, 0, "ack")
}

func TestOutboxRefusesCountsOfFramesNotWritten(t *testing.T) {
	s := newStream(10, 100)
	mustSend(t, s, "r1", "r2", "r3")
	if err := s.Ack(1); err != nil {
		t.Fatal(err)
	}
	o := begin(s)
	o.Next(math.MaxUint64)
	for _, n := range []uint64{0, 3, 4, math.MaxUint64} {
		if err := o.Ack(n); !errors.Is(err, stream.ErrCount) {
			t.Errorf("count %d: %v", n, err)
		}
		if s.Acked() != 1 || o.Written() != 2 {
			t.Fatalf("count %d changed the stream", n)
		}
	}
	for _, n := range []uint64{1, 2} {
		if err := o.Ack(n); err != nil || s.Acked() != n {
			t.Errorf("count %d: %v, acknowledged %d", n, err, s.Acked())
		}
	}
	expect(t, o, math.MaxUint64, "r3")
}

func TestOutboxLimitsVolatileFrames(t *testing.T) {
	kib := strings.Repeat("x", 1<<10)
	many := slices.Repeat([]string{"v"}, stream.MaxVolatiles)
	full := slices.Repeat([]string{kib}, stream.MaxVolatileBytes>>10)
	huge := strings.Repeat("x", stream.MaxVolatileBytes+1)
	for name, tt := range map[string]struct {
		waiting []string
		push    string
		dropped int
	}{
		"as many as allowed":  {many[1:], "w", 0},
		"one too many":        {many, "w", 1},
		"all bytes":           {full[1:], kib, 0},
		"one byte too much":   {full[1:], kib + "x", 1},
		"bytes of two frames": {full, kib + "x", 2},
		"too large for more":  {full, huge, len(full)},
		"too large, alone":    {nil, huge, 0},
		"small after large":   {[]string{huge}, "w", 1},
	} {
		t.Run(name, func(t *testing.T) {
			o := begin(newStream(10, 100))
			for _, f := range tt.waiting {
				if n := o.PushVolatile([]byte(f)); n != 0 {
					t.Fatalf("dropped %d of the first ones", n)
				}
			}
			if n := o.PushVolatile([]byte(tt.push)); n != tt.dropped {
				t.Errorf("dropped %d, want %d", n, tt.dropped)
			}
			left := append(slices.Clone(tt.waiting[tt.dropped:]), tt.push)
			if n, bytes := o.Volatiles(); n != len(left) || bytes != len(strings.Join(left, "")) {
				t.Errorf("%d frames of %d bytes wait", n, bytes)
			}
			expect(t, o, math.MaxUint64, left...)
			if n, bytes := o.Volatiles(); n != 0 || bytes != 0 {
				t.Errorf("%d frames of %d bytes are left", n, bytes)
			}
		})
	}
}

func TestOutboxSaysWhenToAcknowledge(t *testing.T) {
	s := newStream(1000, 1<<20)
	o := begin(s)
	check := func(want stream.AckTime) {
		t.Helper()
		if got := o.Acknowledge(); got != want {
			t.Errorf("after %d messages: %d, want %d", s.HandledCount(), got, want)
		}
	}
	check(stream.AckNever)
	if o.WantAck() {
		t.Error("there is something to acknowledge")
	}
	expect(t, o, math.MaxUint64)
	handle(s, 30)
	check(stream.AckLater)
	handle(s, 1)
	check(stream.AckNever) // the delay has begun
	expect(t, o, math.MaxUint64)
	handle(s, 1)
	check(stream.AckNow)
	handle(s, 1)
	if item := o.Next(math.MaxUint64); item.Kind != stream.Ack || item.Received != 33 {
		t.Errorf("%+v", item)
	}
	check(stream.AckNever)
	handle(s, 1)
	check(stream.AckLater)
	if !o.WantAck() {
		t.Error("there is nothing to acknowledge")
	}
	check(stream.AckNow) // it goes out with the next write
	expect(t, o, math.MaxUint64, "ack")
	handle(s, 1)
	check(stream.AckLater)
}

func TestOutboxWithoutAConnection(t *testing.T) {
	s := newStream(10, 100)
	o := begin(s)
	mustSend(t, s, "r1")
	handle(s, 1)
	o.WantAck()
	o.PushVolatile([]byte("v1"))
	o.PushVolatile([]byte("v2"))
	if n := o.End(); n != 2 {
		t.Errorf("the end of the connection dropped %d", n)
	}
	for name, o := range map[string]*stream.Outbox{"ended": o, "zero": {}} {
		n, bytes := o.Volatiles()
		if dropped := o.PushVolatile([]byte("v3")); dropped != 1 || n != 0 || bytes != 0 || o.Written() != 0 {
			t.Errorf("%s: dropped %d, %d frames of %d bytes wait, %d were written", name, dropped, n, bytes, o.Written())
		}
		if o.WantAck() || o.Acknowledge() != stream.AckNever || o.End() != 0 {
			t.Errorf("%s: something waits", name)
		}
		if err := o.Ack(0); !errors.Is(err, stream.ErrCount) {
			t.Errorf("%s: count 0: %v", name, err)
		}
		expect(t, o, math.MaxUint64)
	}
}

// The memory of an outbox depends on what waits, not on what has passed.
func TestOutboxDoesNotGrow(t *testing.T) {
	o := begin(newStream(10, 100))
	frame := []byte("v")
	for range 10 {
		o.PushVolatile(frame)
	}
	allocs := testing.AllocsPerRun(10_000, func() {
		o.PushVolatile(frame)
		if item := o.Next(math.MaxUint64); item.Kind != stream.Message {
			t.Fatalf("%+v", item)
		}
	})
	if allocs > 0 { // the average, rounded down
		t.Errorf("%v allocations a frame", allocs)
	}
	if n, bytes := o.Volatiles(); n != 10 || bytes != 10 {
		t.Errorf("%d frames of %d bytes wait", n, bytes)
	}
}
