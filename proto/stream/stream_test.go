package stream_test

import (
	"errors"
	"math"
	"testing"

	"github.com/usher-broker/usher/proto/stream"
)

func newStream(messages, bytes int) *stream.Stream {
	return &stream.Stream{Limits: stream.Limits{Messages: messages, Bytes: bytes}}
}

func mustSend(t *testing.T, s *stream.Stream, frames ...string) {
	t.Helper()
	for _, f := range frames {
		if _, err := s.Send([]byte(f)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFrameReturnsKeptFrames(t *testing.T) {
	s := newStream(10, 100)
	mustSend(t, s, "\x00a", "\x00b", "\x00c")
	if err := s.Ack(1); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[uint64]string{0: "", 1: "", 2: "\x00b", 3: "\x00c", 4: "", math.MaxUint64: ""} {
		if got := string(s.Frame(n)); got != want {
			t.Errorf("frame %d: %q, want %q", n, got, want)
		}
	}
}

func TestImpossibleCountsChangeNothing(t *testing.T) {
	s := newStream(10, 100)
	mustSend(t, s, "\x00a", "\x00b", "\x00c")
	if err := s.Ack(2); err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{0, 1, 4, 1 << 53, math.MaxInt64, math.MaxUint64} {
		if err := s.Ack(n); !errors.Is(err, stream.ErrCount) {
			t.Errorf("count %d: %v", n, err)
		}
		if s.Acked() != 2 || s.Sent() != 3 || string(s.Frame(3)) != "\x00c" {
			t.Fatalf("count %d changed the stream", n)
		}
	}
}

// Ack clears the acknowledged entries of the backing array, which would otherwise
// keep the frames alive.
func TestAcknowledgedFramesAreReleased(t *testing.T) {
	s := newStream(10, 100)
	mustSend(t, s, "\x00a", "\x00b", "\x00c")
	before := s.Unacked()
	if err := s.Ack(2); err != nil {
		t.Fatal(err)
	}
	if before[0] != nil || before[1] != nil || before[2] == nil {
		t.Errorf("frames in the array after the ack: %q", before)
	}
	if err := s.Ack(3); err != nil {
		t.Fatal(err)
	}
	if s.Unacked() != nil {
		t.Error("a stream without unacknowledged frames keeps a buffer")
	}
}

// The memory of a stream depends on its messages in flight, not on its age.
func TestSteadyStateDoesNotGrow(t *testing.T) {
	s := newStream(8, 1000)
	frame := []byte("\x00x")
	greatest := 0
	for n := range uint64(100_000) {
		if _, err := s.Send(frame); err != nil {
			t.Fatal(err)
		}
		greatest = max(greatest, cap(s.Unacked()))
		if n >= 4 {
			if err := s.Ack(n - 3); err != nil {
				t.Fatal(err)
			}
		}
	}
	if greatest > 64 {
		t.Errorf("capacity for %d frames where at most 5 are kept", greatest)
	}
}

func TestFrameWithoutAKindByteCostsNothing(t *testing.T) {
	s := newStream(2, 0)
	mustSend(t, s, "", "\x00")
	if _, err := s.Send(nil); !errors.Is(err, stream.ErrFull) {
		t.Errorf("third frame with a limit of two: %v", err)
	}
}

func BenchmarkSendAck(b *testing.B) {
	s := newStream(1024, 1<<20)
	frame := make([]byte, 129)
	b.ReportAllocs()
	for b.Loop() {
		n, err := s.Send(frame)
		if err != nil {
			b.Fatal(err)
		}
		if n%32 == 0 {
			if err := s.Ack(n); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkReceiveHandle(b *testing.B) {
	s := newStream(1024, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		s.Receive()
		s.Handled(128)
		if _, now := s.AckDue(); now {
			s.TakeAck()
		}
	}
}
