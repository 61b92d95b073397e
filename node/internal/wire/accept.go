package wire

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Upgrade turns the request into a connection. It answers with status 101, the headers
// in w.Header() and the subprotocol, if it is not "". The answer waits in the batch of
// the connection, so that it leaves in one segment with the first frames: the caller
// must call Flush.
//
// The caller has checked the method and the headers Connection, Upgrade and
// Sec-WebSocket-Version. Upgrade checks Sec-WebSocket-Key. If it returns an error, it
// has answered the request, or closed the connection.
func (s *Server) Upgrade(w http.ResponseWriter, r *http.Request, subprotocol string) (*Conn, error) {
	key, err := handshakeKey(r.Header)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil, fmt.Errorf("wire: accept: %w", err)
	}
	raw, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		status := http.StatusInternalServerError
		if errors.Is(err, http.ErrNotSupported) {
			status = http.StatusNotImplemented
		}
		http.Error(w, http.StatusText(status), status)
		return nil, fmt.Errorf("wire: hijack the connection: %w", err)
	}
	if rw.Reader.Buffered() > 0 {
		// A client may send nothing after the request before it has the 101.
		raw.Close()
		return nil, errors.New("wire: the client sent data before the handshake was complete")
	}
	c := s.NewConn(raw)
	c.batch = s.batches.Get().(*batch)
	c.batch.b = append(c.batch.b, switching(w.Header().Clone(), key, subprotocol)...)
	return c, nil
}

// handshakeKey returns the Sec-WebSocket-Key of a request.
func handshakeKey(h http.Header) (string, error) {
	keys := h.Values("Sec-WebSocket-Key")
	switch {
	case len(keys) == 0:
		return "", errors.New("WebSocket protocol violation: missing Sec-WebSocket-Key")
	case len(keys) > 1:
		return "", errors.New("WebSocket protocol violation: multiple Sec-WebSocket-Key headers")
	}
	key := strings.TrimSpace(keys[0])
	if v, err := base64.StdEncoding.DecodeString(key); err != nil || len(v) != 16 {
		return "", fmt.Errorf("WebSocket protocol violation: invalid Sec-WebSocket-Key %q, must be a 16 byte base64 encoded string", key)
	}
	return keys[0], nil
}

// switching returns the answer to a handshake.
func switching(h http.Header, key, subprotocol string) []byte {
	h.Set("Upgrade", "websocket")
	h.Set("Connection", "Upgrade")
	h.Set("Sec-WebSocket-Accept", acceptKey(key))
	if subprotocol != "" {
		h.Set("Sec-WebSocket-Protocol", subprotocol)
	}
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(&b)
	b.WriteString("\r\n")
	return b.Bytes()
}

// acceptKey returns the Sec-WebSocket-Accept for a key (RFC 6455, section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
