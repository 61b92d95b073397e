package stream_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/usher-broker/usher/proto/stream"
	"github.com/usher-broker/usher/proto/vectors"
)

func TestStreamVectors(t *testing.T) {
	for _, v := range vectors.Streams() {
		t.Run(v.Name, func(t *testing.T) {
			s := &stream.Stream{Limits: stream.Limits{Messages: v.Limits.Messages, Bytes: v.Limits.Bytes}}
			for i, step := range v.Steps {
				for range max(step.Repeat-1, 0) {
					if why := do(s, step, false); why != "" {
						t.Fatalf("step %d %+v: %s", i, step, why)
					}
				}
				if why := do(s, step, true); why != "" {
					t.Fatalf("step %d %+v: %s", i, step, why)
				}
			}
		})
	}
}

// do executes a step and returns a description of the difference from the vector,
// or "". last is false for all but the last repetition.
func do(s *stream.Stream, step vectors.StreamStep, last bool) string {
	switch step.Op {
	case "send":
		n, err := s.Send(make([]byte, 1+step.Bytes))
		if full := errors.Is(err, stream.ErrFull); full != (step.Error == "full") || err != nil && !full {
			return "got " + text(err)
		}
		if last && n != step.Number {
			return fmt.Sprintf("number %d", n)
		}
	case "acked":
		err := s.Ack(step.Count)
		if bad := errors.Is(err, stream.ErrCount); bad != (step.Error == "count") || err != nil && !bad {
			return "got " + text(err)
		}
	case "receive":
		s.Receive()
	case "handled":
		s.Handled(step.Bytes)
	case "due":
		if pending, now := s.AckDue(); pending != step.Pending || now != step.Now {
			return fmt.Sprintf("pending %v, now %v", pending, now)
		}
	case "take_ack":
		if n := s.TakeAck(); n != step.Count {
			return fmt.Sprintf("count %d", n)
		}
	case "resumed":
		s.Resumed()
	case "state":
		if s.Sent() != step.Sent || s.Acked() != step.Acked || s.Received() != step.Received || s.HandledCount() != step.Handled {
			return fmt.Sprintf("sent %d, acked %d, received %d, handled %d", s.Sent(), s.Acked(), s.Received(), s.HandledCount())
		}
		if !slices.Equal(sizes(s), step.Kept) {
			return fmt.Sprintf("kept %v", sizes(s))
		}
	default:
		return "unknown operation"
	}
	return ""
}

func sizes(s *stream.Stream) []int {
	list := []int{}
	for _, f := range s.Unacked() {
		list = append(list, len(f)-1)
	}
	return list
}

func text(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}
