package proto_test

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/vectors"
)

func TestMessageVectors(t *testing.T) {
	for _, v := range vectors.Messages() {
		t.Run(v.Name, func(t *testing.T) {
			if v.Text && v.String != string(v.Data) {
				t.Fatalf("vector contradicts itself: string %q, data %x", v.String, v.Data)
			}
			want := proto.Message{Data: v.Data, Text: v.Text, Volatile: v.Volatile}
			if got := proto.AppendMessage(nil, want); !bytes.Equal(got, v.Frame) {
				t.Errorf("encoded as %x, want %x", got, v.Frame)
			}
			got, err := proto.ParseMessage(v.Frame)
			if err != nil || !equalMessages(got, want) {
				t.Errorf("decoded as %+v, %v; want %+v", got, err, want)
			}
		})
	}
}

func TestBadMessageVectors(t *testing.T) {
	errorNames := map[string]error{
		vectors.ErrorEmpty:       proto.ErrEmptyMessage,
		vectors.ErrorUnknownKind: proto.ErrUnknownKind,
		vectors.ErrorInvalidUTF8: proto.ErrInvalidUTF8,
	}
	for _, v := range vectors.BadMessages() {
		t.Run(v.Name, func(t *testing.T) {
			got, err := proto.ParseMessage(v.Frame)
			if want := errorNames[v.Error]; want == nil || !errors.Is(err, want) {
				t.Errorf("got %v, want %v (%s)", err, want, v.Error)
			}
			if got.Data != nil {
				t.Errorf("got data %x with the error", got.Data)
			}
		})
	}
}

func TestMessageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := proto.Message{Text: rapid.Bool().Draw(t, "text"), Volatile: rapid.Bool().Draw(t, "volatile")}
		if want.Text {
			want.Data = []byte(rapid.String().Draw(t, "string"))
		} else {
			want.Data = rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		}
		prefix := rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "prefix")
		frame := proto.AppendMessage(bytes.Clone(prefix), want)
		if !bytes.HasPrefix(frame, prefix) {
			t.Fatalf("%x does not begin with %x", frame, prefix)
		}
		frame = frame[len(prefix):]
		if len(frame) != 1+len(want.Data) {
			t.Fatalf("%d bytes for a payload of %d", len(frame), len(want.Data))
		}
		got, err := proto.ParseMessage(frame)
		if err != nil || !equalMessages(got, want) {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
	})
}

func TestParseMessageAllocatesNothing(t *testing.T) {
	frame := proto.AppendMessage(nil, proto.Message{Data: bytes.Repeat([]byte("x"), 64<<10), Text: true})
	n := testing.AllocsPerRun(100, func() {
		if _, err := proto.ParseMessage(frame); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func equalMessages(a, b proto.Message) bool {
	return a.Text == b.Text && a.Volatile == b.Volatile && bytes.Equal(a.Data, b.Data)
}
