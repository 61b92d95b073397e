package node

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plainVerifier accepts a token that is just its claims in base64. The package token
// tests how tokens are verified.
type plainVerifier struct{}

var errForged = errors.New("forged")

func (plainVerifier) Verify(_ context.Context, raw string) (proto.Claims, error) {
	var c proto.Claims
	b, err := base64.RawURLEncoding.DecodeString(raw)
	if err != nil || json.Unmarshal(b, &c) != nil {
		return c, errForged
	}
	if c.Expires < time.Now().Unix() {
		return c, token.ErrExpired
	}
	return c, nil
}

// rig is a node under test and the store of its sessions.
type rig struct {
	t     testing.TB
	node  *Node
	store session.Store
	http  *httptest.Server
	log   *lockedBuffer

	client *http.Client // opens connections; nil for the default
	endRun func()       // ends Run and waits for it
}

func newRig(t testing.TB, app App, set func(*Config)) *rig {
	t.Helper()
	store := memory.New(time.Now)
	r := &rig{t: t, store: store, log: &lockedBuffer{}}
	cfg := Config{
		ID: "node-1", App: app, Store: store, Verifier: plainVerifier{},
		Logger: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	if set != nil {
		set(&cfg)
	}
	r.store = wholeStore(&cfg)
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.node = n
	r.http = httptest.NewServer(n.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.Run(ctx)
	}()
	r.endRun = func() { cancel(); <-done }
	<-n.Running()
	t.Cleanup(func() {
		r.http.Close()
		ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
		defer stop()
		if err := n.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		cancel()
		<-done
		store.Close()
		http.DefaultClient.CloseIdleConnections()
		if t.Failed() && os.Getenv("USHER_TEST_LOG") != "" {
			t.Log(r.log.String())
		}
	})
	return r
}

// wholeStore returns the store of the configuration with all its parts: the tests also
// do with it what a broker does.
func wholeStore(c *Config) session.Store { return c.Store.(session.Store) }

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// login creates a session as a broker does and returns its claims.
func (r *rig) login(user string) proto.Claims {
	r.t.Helper()
	rec, _, err := r.store.Create(context.Background(), session.NewRequest(),
		session.Record{ID: session.NewID(user), User: user, Node: "node-1", Pool: "default"}, session.Rule{}, time.Minute)
	if err != nil {
		r.t.Fatal(err)
	}
	now := time.Now().Unix()
	return proto.Claims{
		Issuer: "auth-1", Audience: proto.TokenAudience, User: user, Session: rec.ID, Node: "node-1",
		Epoch: rec.Epoch, IssuedAt: now, NotBefore: now, Expires: now + 600, ID: "1",
	}
}

func tokenOf(c proto.Claims) string {
	b, _ := json.Marshal(c)
	return base64.RawURLEncoding.EncodeToString(b)
}

// client is one connection whose messages the test reads and writes one by one.
type client struct {
	t       testing.TB
	ws      *websocket.Conn
	welcome proto.Welcome
}

func (r *rig) url(query string) string {
	u := "ws" + strings.TrimPrefix(r.http.URL, "http") + proto.ConnectPath
	if query != "" {
		u += "?" + query
	}
	return u
}

// dial opens a connection and reads nothing.
func (r *rig) dial(c proto.Claims, query string) *client {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, r.url(query), &websocket.DialOptions{
		HTTPClient:   r.client,
		Subprotocols: []string{proto.Subprotocol},
		HTTPHeader:   http.Header{"Authorization": {"Bearer " + tokenOf(c)}},
	})
	if err != nil {
		r.t.Fatalf("dial: %v (%v)", err, resp)
	}
	ws.SetReadLimit(1 << 20)
	r.t.Cleanup(func() { ws.CloseNow() })
	return &client{t: r.t, ws: ws}
}

// attach opens a connection and reads the welcome.
func (r *rig) attach(c proto.Claims, query string) *client {
	r.t.Helper()
	cl := r.dial(c, query)
	ctl := cl.control()
	if ctl.Type != proto.TypeWelcome {
		r.t.Fatalf("got %+v, want a welcome", ctl)
	}
	cl.welcome = ctl.Welcome
	return cl
}

// read reads one WebSocket message.
func (c *client) read() (websocket.MessageType, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c.ws.Read(ctx)
}

func (c *client) control() proto.Control {
	c.t.Helper()
	typ, b, err := c.read()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	if typ != websocket.MessageText {
		c.t.Fatalf("got message %q, want a control", b)
	}
	ctl, err := proto.ParseControl(b)
	if err != nil {
		c.t.Fatalf("%s: %v", b, err)
	}
	return ctl
}

// message returns the next application message. It skips controls.
func (c *client) message() proto.Message {
	c.t.Helper()
	for {
		typ, b, err := c.read()
		if err != nil {
			c.t.Fatalf("read: %v", err)
		}
		if typ == websocket.MessageBinary {
			m, err := proto.ParseMessage(b)
			if err != nil {
				c.t.Fatal(err)
			}
			return m
		}
	}
}

// closed reads until the connection ends and returns the close code, or -1 if there
// was none.
func (c *client) closed() int {
	c.t.Helper()
	for {
		if _, _, err := c.read(); err != nil {
			return int(websocket.CloseStatus(err))
		}
	}
}

func (c *client) send(m proto.Message) {
	c.t.Helper()
	c.write(websocket.MessageBinary, proto.AppendMessage(nil, m))
}

func (c *client) sendControl(ctl proto.Control) {
	c.t.Helper()
	c.write(websocket.MessageText, proto.AppendControl(nil, ctl))
}

func (c *client) write(typ websocket.MessageType, b []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.ws.Write(ctx, typ, b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func text(format string, a ...any) proto.Message {
	return proto.Message{Data: fmt.Appendf(nil, format, a...), Text: true}
}

// callRecorder is an App that records every call.
type callRecorder struct {
	mu    sync.Mutex
	calls map[string][]string
	last  map[string]*Session
	on    func(s *Session, m Message)
}

func newCallRecorder() *callRecorder {
	return &callRecorder{calls: map[string][]string{}, last: map[string]*Session{}}
}

func (j *callRecorder) note(s *Session, format string, a ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls[s.User] = append(j.calls[s.User], fmt.Sprintf(format, a...))
	j.last[s.User] = s
}

func (j *callRecorder) Opened(s *Session)   { j.note(s, "opened") }
func (j *callRecorder) Detached(s *Session) { j.note(s, "detached") }
func (j *callRecorder) Resumed(s *Session)  { j.note(s, "resumed") }
func (j *callRecorder) Reset(s *Session, r Reset) {
	away := ""
	if r.Away {
		away = " away"
	}
	j.note(s, "reset %s %d%s", r.Reason, len(r.Unconfirmed), away)
}
func (j *callRecorder) Closed(s *Session, c proto.CloseCode) { j.note(s, "closed %s", c) }
func (j *callRecorder) Message(s *Session, m Message) {
	j.note(s, "message %s", m.Data)
	if j.on != nil {
		j.on(s, m)
	}
}

func (j *callRecorder) of(user string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.calls[user]...)
}

// session returns the user's session once the App was notified of it, which may be
// after the client got its welcome.
func (j *callRecorder) session(t testing.TB, user string) *Session {
	t.Helper()
	var s *Session
	eventually(t, func() error {
		j.mu.Lock()
		defer j.mu.Unlock()
		if s = j.last[user]; s == nil {
			return fmt.Errorf("the application was not notified of %s", user)
		}
		return nil
	})
	return s
}

// await waits until the calls for the user are exactly want.
func (j *callRecorder) await(t *testing.T, user string, want ...string) {
	t.Helper()
	eventually(t, func() error {
		if got := j.of(user); strings.Join(got, "\n") != strings.Join(want, "\n") {
			return fmt.Errorf("the application saw %q, want %q", got, want)
		}
		return nil
	})
}

func eventually(t testing.TB, f func() error) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
