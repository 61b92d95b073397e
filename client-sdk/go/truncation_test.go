package usher_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// A message that is truncated by an orderly end of the connection is neither delivered
// nor counted: the node sends it again. The connection ends where reads end, because
// there the library mistakes the end of the connection for the end of the message.
func TestTruncatedMessage(t *testing.T) {
	complete := frame(0x82, append([]byte{0}, bytes.Repeat([]byte("x"), 9000)...))
	for _, cut := range []int{1, 2, 4, 5, 4 + 512, 4 + 1024, 4 + 4096, len(complete) - 1} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			n := &cutNode{t: t, first: complete[:cut], second: complete}
			web := httptest.NewServer(n)
			defer web.Close()
			n.url = "ws" + strings.TrimPrefix(web.URL, "http") + proto.ConnectPath
			s, err := usher.Connect(t.Context(), usher.Config{Auth: web.URL, Credentials: usher.Guest("ada")})
			if err != nil {
				t.Fatal(err)
			}
			m, err := s.Receive(t.Context())
			if err != nil || len(m.Data) != 9000 {
				t.Fatalf("received %d bytes, %v", len(m.Data), err)
			}
			if st := s.Stats(); st.Received != 1 || st.Resumes != 1 || st.Resets != 0 {
				t.Errorf("%+v", st)
			}
			_ = s.Close(t.Context())
		})
	}
}

// cutNode is an auth and a node that ends its first connection within a message.
type cutNode struct {
	t             *testing.T
	url           string
	first, second []byte
	attached      int
}

func (n *cutNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != proto.ConnectPath {
		_ = json.NewEncoder(w).Encode(proto.Assignment{
			Token: "token", Session: "s", User: "ada", TokenExpiresAt: time.Now().Add(time.Hour),
			Node: proto.NodeAddress{ID: "n", URL: n.url},
		})
		return
	}
	n.attached++
	q := r.URL.Query()
	if n.attached > 1 && (q.Get(proto.QueryStream) != "stream" || q.Get(proto.QueryReceived) != "0") {
		n.t.Errorf("attached again with %s", r.URL.RawQuery)
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		n.t.Error(err)
		return
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: usher.v1\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	welcome := proto.AppendControl(nil, proto.Control{Type: proto.TypeWelcome, Welcome: proto.Welcome{
		Session: "s", Stream: "stream", Node: "n", Resumed: n.attached > 1, PingIntervalMS: 15000, ResumeWindowMS: 60000,
		MaxMessageBytes: 65536, MaxUnackedBytes: 262144, MaxUnackedMessages: 1024, TokenExpiresAt: time.Now().Add(time.Hour),
	}})
	_, _ = conn.Write(frame(0x81, welcome))
	if n.attached == 1 {
		_, _ = conn.Write(n.first)
		_ = conn.(*net.TCPConn).CloseWrite()
	} else {
		_, _ = conn.Write(n.second)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	for b := make([]byte, 512); err == nil; { // until the client has closed
		_, err = conn.Read(b)
	}
}

// frame returns an unmasked WebSocket frame.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	if len(payload) < 126 {
		b = append(b, byte(len(payload)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(len(payload)))
	}
	return append(b, payload...)
}
