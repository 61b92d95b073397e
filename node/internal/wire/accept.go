package wire

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
)

// Upgrade turns the request into a connection. It answers with status 101, the headers
// in w.Header() and the subprotocol, if it is not "". The answer waits in the batch of
// the connection, so that it leaves in one segment with the first frames: the caller
// must call Flush.
//
// The caller has checked the method and the headers Connection and Upgrade, and has
// called CheckRequest. If Upgrade returns an error, it has answered the request, or
// closed the connection.
func (s *Server) Upgrade(w http.ResponseWriter, r *http.Request, subprotocol string) (*Conn, error) {
	key := r.Header.Get("Sec-WebSocket-Key")
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

// CheckRequest returns what is wrong with the headers Sec-WebSocket-Version and
// Sec-WebSocket-Key of a handshake, or that it has a body, whose bytes would be read as
// frames. It changes nothing, so the caller can refuse a request before it acts on it.
func CheckRequest(r *http.Request) error {
	if v := r.Header.Values("Sec-WebSocket-Version"); len(v) != 1 || v[0] != "13" {
		return fmt.Errorf("Sec-WebSocket-Version is %q, must be 13", v)
	}
	keys := r.Header.Values("Sec-WebSocket-Key")
	if len(keys) != 1 {
		return fmt.Errorf("%d headers Sec-WebSocket-Key, must be one", len(keys))
	}
	if v, err := base64.StdEncoding.DecodeString(keys[0]); err != nil || len(v) != 16 {
		return fmt.Errorf("Sec-WebSocket-Key is %q, must be 16 bytes in base64", keys[0])
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return errors.New("the handshake has a body")
	}
	return nil
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
