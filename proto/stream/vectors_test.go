package stream_test

import (
	"errors"
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

// do carries a step out, the last time or one of those before it, and says
// what is not as it should be.
func do(s *stream.Stream, step vectors.StreamStep, last bool) string {
	switch step.Op {
	case "send":
		n, err := s.Send(make([]byte, 1+step.Bytes))
		if full := errors.Is(err, stream.ErrFull); full != (step.Error == "full") || err != nil && !full {
			return "got " + text(err)
		}
		if last && n != step.Number {
			return "another number"
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
		if owed, now := s.AckDue(); owed != step.Pending || now != step.Now {
			return "due otherwise"
		}
	case "take_ack":
		if s.TakeAck() != step.Count {
			return "another count"
		}
	case "resumed":
		s.Resumed()
	case "state":
		if s.Sent() != step.Sent || s.Acked() != step.Acked || s.Received() != step.Received || s.HandledCount() != step.Handled {
			return "another state"
		}
		if !slices.Equal(sizes(s), step.Kept) {
			return "other messages kept"
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
