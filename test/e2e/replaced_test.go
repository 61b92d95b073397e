package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// TestReplaced takes a session over while its old connection is open, and goes
// on sending on the old one: nothing of that may be counted or delivered.
func TestReplaced(t *testing.T) {
	c := startCluster(t, 1)
	at := c.enter("ada")
	old, w := attach(t, at, "?attempt=1")
	say(t, old, "one")
	hear(t, old, "one")

	next, resumed := attach(t, at, fmt.Sprintf("?attempt=2&stream=%s&received=1", w.Stream))
	if !resumed.Resumed || resumed.Received != 1 {
		t.Fatalf("the second connection: %+v, want the stream with 1 received", resumed)
	}
	// The node has decided; the old connection still leads to it.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for range 3 {
		_ = old.Write(ctx, websocket.MessageBinary, frame("ghost"))
	}
	say(t, next, "two")
	hear(t, next, "two")
	if code := closed(old); code != proto.CloseReplaced {
		t.Errorf("the old connection was closed with %d, want %d", code, proto.CloseReplaced)
	}

	// An attempt that was overtaken on its way does not get the session back.
	late := dial(t, at, fmt.Sprintf("?attempt=1&stream=%s&received=1", w.Stream))
	if code := closed(late); code != proto.CloseReplaced {
		t.Errorf("an attempt that comes too late was closed with %d, want %d", code, proto.CloseReplaced)
	}
	say(t, next, "three")
	hear(t, next, "three")
	_, last := attach(t, at, fmt.Sprintf("?attempt=3&stream=%s&received=3", w.Stream))
	if !last.Resumed || last.Received != 3 {
		t.Errorf("the third connection: %+v, want the stream with 3 received", last)
	}
}

func frame(text string) []byte {
	return proto.AppendMessage(nil, proto.Message{Text: true, Data: []byte(text)})
}

// say sends a text.
func say(t *testing.T, ws *websocket.Conn, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := ws.Write(ctx, websocket.MessageBinary, frame(text)); err != nil {
		t.Fatalf("sending %q: %v", text, err)
	}
}

// hear reads the next message, which must be the text.
func hear(t *testing.T, ws *websocket.Conn, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		typ, b, err := ws.Read(ctx)
		if err != nil {
			t.Fatalf("waiting for %q: %v", text, err)
		}
		if typ != websocket.MessageBinary {
			continue
		}
		if string(b) != string(frame(text)) {
			t.Fatalf("%q came in place of %q", b, text)
		}
		return
	}
}
