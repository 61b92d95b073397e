package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// TestReplaced attaches a session again while its old connection is open, and sends
// on the old connection. The node must neither count nor deliver those messages.
func TestReplaced(t *testing.T) {
	c := startCluster(t, 1)
	at := c.mustLogin("ada")
	old, w := attach(t, at, "?attempt=1")
	sendText(t, old, "one")
	expectText(t, old, "one")

	next, resumed := attach(t, at, fmt.Sprintf("?attempt=2&stream=%s&received=1", w.Stream))
	if !resumed.Resumed || resumed.Received != 1 {
		t.Fatalf("the second connection: %+v, want the stream with 1 received", resumed)
	}
	// The node has replaced the old connection, which is not closed yet.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for range 3 {
		_ = old.Write(ctx, websocket.MessageBinary, frame("ghost"))
	}
	sendText(t, next, "two")
	expectText(t, next, "two")
	if code := awaitClose(old); code != proto.CloseReplaced {
		t.Errorf("the old connection was closed with %d, want %d", code, proto.CloseReplaced)
	}

	// An attach with an older attempt number must not replace a newer one.
	late := dial(t, at, fmt.Sprintf("?attempt=1&stream=%s&received=1", w.Stream))
	if code := awaitClose(late); code != proto.CloseReplaced {
		t.Errorf("an attach with an older attempt number was closed with %d, want %d", code, proto.CloseReplaced)
	}
	sendText(t, next, "three")
	expectText(t, next, "three")
	_, last := attach(t, at, fmt.Sprintf("?attempt=3&stream=%s&received=3", w.Stream))
	if !last.Resumed || last.Received != 3 {
		t.Errorf("the third connection: %+v, want the stream with 3 received", last)
	}
}

// frame returns the binary frame of a text message.
func frame(text string) []byte {
	return proto.AppendMessage(nil, proto.Message{Text: true, Data: []byte(text)})
}

// sendText sends a text message.
func sendText(t *testing.T, ws *websocket.Conn, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := ws.Write(ctx, websocket.MessageBinary, frame(text)); err != nil {
		t.Fatalf("sending %q: %v", text, err)
	}
}

// expectText reads the next message and fails the test if it is not the text.
// It skips controls.
func expectText(t *testing.T, ws *websocket.Conn, text string) {
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
			t.Fatalf("received the frame %q, want the text %q", b, text)
		}
		return
	}
}
