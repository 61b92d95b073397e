package stream_test

import (
	"math"
	"testing"

	"github.com/usher-broker/usher/proto/stream"
)

// BenchmarkEcho measures what an outbox adds to the stream for a node that answers
// each message at once: a message is handled and its answer written, alone, and the
// peer acknowledges now and then. "stream" does the same with the stream alone, without
// volatile messages, which is the least that is possible.
func BenchmarkEcho(b *testing.B) {
	b.Run("stream", func(b *testing.B) {
		s, frame, next := newStream(1024, 1<<20), make([]byte, 129), uint64(1)
		written := 0
		b.ReportAllocs()
		for b.Loop() {
			s.Receive()
			s.Handled(128)
			echo(b, s, frame)
			if _, now := s.AckDue(); now {
				written += int(s.TakeAck() & 1)
			}
			for f := s.Frame(next); f != nil; f = s.Frame(next) {
				next++
				written += len(f)
			}
			confirm(b, s.Sent(), s.Ack)
		}
		sink = written
	})
	b.Run("outbox", func(b *testing.B) {
		s, frame := newStream(1024, 1<<20), make([]byte, 129)
		var o stream.Outbox
		o.Begin(s)
		written := 0
		b.ReportAllocs()
		for b.Loop() {
			s.Receive()
			s.Handled(128)
			echo(b, s, frame)
			o.Acknowledge()
			if !o.MessageWaits(math.MaxUint64) {
				b.Fatal("the answer does not wait")
			}
			for item := o.Next(math.MaxUint64); item.Kind != stream.Nothing; item = o.Next(math.MaxUint64) {
				written += len(item.Frame) + int(item.Received&1)
			}
			if o.Waits(math.MaxUint64) {
				b.Fatal("something waits")
			}
			confirm(b, s.Sent(), o.Ack)
		}
		sink = written
	})
}

// BenchmarkVolatile measures volatile frames that are written one by one.
func BenchmarkVolatile(b *testing.B) {
	var o stream.Outbox
	o.Begin(newStream(1024, 1<<20))
	frame, written := make([]byte, 129), 0
	b.ReportAllocs()
	for b.Loop() {
		o.PushVolatile(frame)
		written += len(o.Next(math.MaxUint64).Frame)
	}
	sink = written
}

var sink int // keeps the compiler from leaving out what is measured

func echo(b *testing.B, s *stream.Stream, frame []byte) {
	if _, err := s.Send(frame); err != nil {
		b.Fatal(err)
	}
}

// confirm acknowledges every 32nd message.
func confirm(b *testing.B, sent uint64, ack func(uint64) error) {
	if sent%32 != 0 {
		return
	}
	if err := ack(sent); err != nil {
		b.Fatal(err)
	}
}
