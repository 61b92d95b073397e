package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// naive is a client whose author knows nothing about resuming. After every close other
// than session_ended it attaches again without naming its stream, and continues to count.
func naive(ctx context.Context, auth, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	body := fmt.Sprintf(`{"method":"guest","credentials":{"name":%q}}`, name)
	resp, err := http.Post(auth+"/v1/login", "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var a proto.Assignment
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return err
	}
	var sent atomic.Int64
	for ctx.Err() == nil {
		ws, _, err := websocket.Dial(ctx, a.Node.URL, &websocket.DialOptions{
			Subprotocols: []string{proto.Subprotocol}, HTTPHeader: http.Header{"Authorization": {"Bearer " + a.Token}},
		})
		if err == nil && talk(ctx, ws, &sent) == websocket.StatusCode(proto.CloseSessionEnded) {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return ctx.Err()
}

// talk sends numbers and acknowledges every message it receives until the connection
// ends. It returns the close code.
func talk(ctx context.Context, ws *websocket.Conn, sent *atomic.Int64) websocket.StatusCode {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for sent.Load() < 30 && ctx.Err() == nil {
			m := proto.AppendMessage(nil, proto.Message{Text: true, Data: strconv.AppendInt(nil, sent.Add(1), 10)})
			_ = ws.Write(ctx, websocket.MessageBinary, m)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for received := uint64(0); ; {
		typ, _, err := ws.Read(ctx)
		if err != nil {
			return websocket.CloseStatus(err)
		}
		if typ == websocket.MessageBinary {
			received++
			_ = ws.Write(ctx, websocket.MessageText, proto.AppendControl(nil, proto.Control{Type: proto.TypeAck, Received: received}))
		}
	}
}
