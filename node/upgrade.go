package node

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// Sizes of the buffers that the WebSocket library keeps for as long as the connection
// lives. Most of the memory of an idle connection would be buffers. Larger messages
// are read past them. If timedConn waits for bytes and batches frames, they hold only
// the header of a frame.
const (
	headerBuffer = 16
	readBuffer   = 512
)

// upgrade turns the request into a WebSocket. When it returns, the HTTP handler has
// nothing left to do, and the server's goroutine and buffers can be freed.
func (n *Node) upgrade(w http.ResponseWriter, r *http.Request) (*conn, error) {
	h := &hijacker{w: w, timeout: n.cfg.WriteTimeout, meter: n.meter}
	ws, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols:       []string{proto.Subprotocol},
		InsecureSkipVerify: true, // checkHandshake has checked the origin
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1) // read.go limits messages, and closes with a code of the protocol
	return &conn{ws: ws, net: h.conn}, nil
}

// hijacker gives websocket.Accept a connection with small buffers of its own instead
// of the buffers of the server. It keeps the 101 response in the batch, so that the
// welcome travels in the same segment.
type hijacker struct {
	w       http.ResponseWriter
	timeout time.Duration
	meter   *meter
	status  int
	conn    *timedConn
}

func (h *hijacker) Header() http.Header         { return h.w.Header() }
func (h *hijacker) Write(b []byte) (int, error) { return h.w.Write(b) }

func (h *hijacker) WriteHeader(status int) {
	h.status = status
	if status != http.StatusSwitchingProtocols {
		h.w.WriteHeader(status)
	}
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if h.status != http.StatusSwitchingProtocols {
		return nil, nil, errors.New("node: connection hijacked without status 101")
	}
	header := h.w.Header().Clone()
	raw, rw, err := http.NewResponseController(h.w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if rw.Reader.Buffered() > 0 {
		// A client may send nothing after the request before it has the 101.
		raw.Close()
		return nil, nil, errors.New("node: client sent data before the handshake was complete")
	}
	h.conn = newTimedConn(raw, h.timeout, h.meter)
	h.conn.startBatch(true)
	h.conn.appendRaw(switching(header))
	size := readBuffer
	if h.conn.waiter != nil {
		size = headerBuffer
	}
	return h.conn, bufio.NewReadWriter(bufio.NewReaderSize(h.conn, size), bufio.NewWriterSize(h.conn, headerBuffer)), nil
}

func switching(header http.Header) []byte {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = header.Write(&b)
	b.WriteString("\r\n")
	return b.Bytes()
}
