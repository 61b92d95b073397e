package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/console"
	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

var loopback = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8081}

// fixture is a private API with a fake broker and one key of each role.
type fixture struct {
	t       *testing.T
	broker  *fakeBroker
	handler http.Handler
	keys    map[console.Role]string
	log     *bytes.Buffer
	spec    *spec
	opened  *console.Keys
	rate    int
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	h := &fixture{t: t, broker: newFakeBroker(), keys: map[console.Role]string{}, log: &bytes.Buffer{}, spec: readSpec(t)}
	var lines []string
	for _, role := range console.Roles {
		key, line, err := console.NewKey(string(role), "the-"+string(role))
		if err != nil {
			t.Fatal(err)
		}
		h.keys[role] = key
		lines = append(lines, line)
	}
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := console.OpenKeys(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.open(keys)
	return h
}

// open makes a new server with the keys, nil for local mode.
func (h *fixture) open(keys *console.Keys) {
	h.t.Helper()
	h.opened = keys
	s, err := console.New(console.Config{
		Broker: h.broker, Keys: keys, Rate: h.rate, Listen: loopback, Logger: slog.New(slog.NewJSONHandler(h.log, nil)),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.handler = s.Handler()
}

// request returns a request with the key of the role; "" for none.
func (h *fixture) request(role console.Role, method, path, body string) *http.Request {
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, "http://127.0.0.1:8081"+path, rd)
	r.RemoteAddr = "127.0.0.1:40000"
	if path == "/v1/events" { // end the stream after the first event
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		r = r.WithContext(ctx)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if role != "" {
		r.Header.Set("Authorization", "Bearer "+h.keys[role])
	}
	return r
}

// do serves the request, and checks the answer against openapi.yaml.
func (h *fixture) do(r *http.Request) *httptest.ResponseRecorder {
	h.t.Helper()
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	h.spec.check(h.t, r, w)
	return w
}

// get does a GET and decodes the answer.
func (h *fixture) get(role console.Role, path string, v any) {
	h.t.Helper()
	w := h.do(h.request(role, "GET", path, ""))
	if w.Code != http.StatusOK {
		h.t.Fatalf("GET %s: %d %s", path, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
		h.t.Fatal(err)
	}
}

func problemOf(t *testing.T, w *httptest.ResponseRecorder) proto.Problem {
	t.Helper()
	var p proto.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return p
}

// audits returns the audit lines so far.
func (h *fixture) audits() []map[string]any {
	h.t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(h.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			h.t.Fatal(err)
		}
		if m["msg"] == "audit" {
			lines = append(lines, m)
		}
	}
	return lines
}

// fakeBroker is a Broker that answers from its fields and records its calls.
type fakeBroker struct {
	err         error // what all methods with an error return
	panics      bool  // methods without an error panic
	views       []nodes.View
	sessions    []session.Record
	assigned    proto.AssignmentRequest
	unreachable string // of the last explanation
	ended       map[string]proto.CloseCode
	reason      string // of the last end
	drained     map[string]proto.DrainRequest
	pushed      []proto.Push
	key         string // of the last push
	result      string // that pushes return
	deadline    time.Duration
}

var born = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("CET", 3600))

func newFakeBroker() *fakeBroker {
	peer := proto.Peer{
		ID: "node-1", Role: proto.RoleNode, State: proto.StateReady, URL: "wss://n1.example/v1/connect",
		Region: "eu", Pool: "default", Capacity: 1000, Live: 10, Generation: 1, Version: "v1",
	}
	return &fakeBroker{
		ended: map[string]proto.CloseCode{}, drained: map[string]proto.DrainRequest{}, result: proto.PushSent,
		views: []nodes.View{
			{
				Peer:   peer,
				Report: proto.Report{ID: "node-1", State: proto.StateFull, Capacity: 2000, Live: 20, Attached: 19, ArrivedAll: 91_220},
				Age:    430 * time.Millisecond, Pending: 3, Estimate: 26.04999, Reach: nodes.Reached,
			},
			{
				Peer:   proto.Peer{ID: "a/b c", Role: proto.RoleNode, State: proto.StateDraining, Pool: "vip", Capacity: 5, Live: 2},
				Report: proto.Report{ID: "a/b c", State: proto.StateReady, Capacity: 5, Live: 3, Attached: 1},
				Reach:  nodes.NeverReached, Unreached: "refused", LoadPenalty: 40, Verdict: nodes.Verdict{Level: nodes.NotReady, Reasons: []string{"draining"}},
			},
		},
		sessions: []session.Record{{
			ID: session.NewID("ada"), User: "ada", Node: "node-1", Epoch: 1, State: session.Assigned,
			Pool: "default", Created: born, Changed: born,
		}, {
			ID: session.NewID("ada"), User: "ada", Node: "node-1", Epoch: 2, State: session.Attached, Stream: "Q7ZK",
			Pool: "vip", Region: "eu", Group: "match", Ext: json.RawMessage(`{"secret":1}`), Created: born, Changed: born.Add(time.Second),
		}},
	}
}

func (b *fakeBroker) Assign(ctx context.Context, req proto.AssignmentRequest) (proto.Assignment, error) {
	b.note(ctx)
	b.assigned = req
	if b.err != nil {
		return proto.Assignment{}, b.err
	}
	return proto.Assignment{
		Token: "eyJ.eyJ.sig", TokenExpiresAt: born.UTC(), Session: session.NewID(req.User), User: req.User,
		Node: proto.NodeAddress{ID: "node-1", URL: "wss://n1.example/v1/connect"},
	}, nil
}

func (b *fakeBroker) End(ctx context.Context, sid string, code proto.CloseCode, reason string) error {
	b.note(ctx)
	if _, err := b.Session(ctx, sid); err != nil {
		return err
	}
	b.ended[sid], b.reason = code, reason
	return nil
}

func (b *fakeBroker) EndUser(ctx context.Context, user string, code proto.CloseCode, reason string) (ids []string, err error) {
	b.note(ctx)
	for _, r := range b.sessions {
		if r.User == user && b.err == nil {
			b.ended[r.ID], b.reason = code, reason
			ids = append(ids, r.ID)
		}
	}
	return ids, b.err
}

func (b *fakeBroker) Drain(ctx context.Context, id string, req proto.DrainRequest) error {
	b.note(ctx)
	if b.err == nil {
		b.drained[id] = req
	}
	return b.err
}

func (b *fakeBroker) Undrain(ctx context.Context, id string) error {
	b.note(ctx)
	if b.err == nil {
		delete(b.drained, id)
	}
	return b.err
}

func (b *fakeBroker) Push(ctx context.Context, sid, key string, m proto.Push) (proto.PushResult, error) {
	b.note(ctx)
	b.pushed, b.key = append(b.pushed, m), key
	return proto.PushResult{Session: sid, Node: "node-1", Result: b.result}, b.err
}

func (b *fakeBroker) PushUser(ctx context.Context, user, key string, m proto.Push) (list []proto.PushResult, err error) {
	for _, r := range b.sessions {
		if r.User == user {
			result, _ := b.Push(ctx, r.ID, key, m)
			list = append(list, result)
		}
	}
	return list, b.err
}

func (b *fakeBroker) Explain(ctx context.Context, req proto.AssignmentRequest, unreachable string) (broker.Explanation, error) {
	b.note(ctx)
	b.assigned, b.unreachable = req, unreachable
	if b.err != nil {
		return broker.Explanation{}, b.err
	}
	return broker.Explanation{
		Node: "node-1", Group: "node-1", Sessions: b.sessions,
		Nodes: []placement.Rating{
			{View: b.views[0], Candidate: true, Score: 0.25, Scored: true, Chosen: true, Because: "it has the best score"},
			{View: b.views[1], Because: "draining"},
		},
	}, nil
}

func (b *fakeBroker) Session(ctx context.Context, sid string) (session.Record, error) {
	b.note(ctx)
	if b.err != nil {
		return session.Record{}, b.err
	}
	for _, r := range b.sessions {
		if r.ID == sid {
			if r.State == session.Ended {
				return r, session.ErrEnded
			}
			return r, nil
		}
	}
	return session.Record{}, session.ErrNotFound
}

func (b *fakeBroker) Sessions(ctx context.Context, user string, limit int) ([]session.Record, error) {
	b.note(ctx)
	if b.err != nil {
		return nil, b.err
	}
	var list []session.Record
	for _, r := range b.sessions {
		if r.User == user && len(list) < limit {
			list = append(list, r)
		}
	}
	return list, nil
}

func (b *fakeBroker) Nodes() []nodes.View {
	if b.panics {
		panic("a bug")
	}
	return b.views
}

func (b *fakeBroker) Node(id string) (nodes.View, bool) {
	for _, v := range b.Nodes() {
		if v.Peer.ID == id {
			return v, true
		}
	}
	return nodes.View{}, false
}

func (b *fakeBroker) note(ctx context.Context) {
	if d, ok := ctx.Deadline(); ok {
		b.deadline = time.Until(d)
	}
}

func decode(t *testing.T, w *httptest.ResponseRecorder, v any) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
		t.Fatalf("%d %q: %v", w.Code, w.Body, err)
	}
}

type readCloser struct{ io.Reader }

func (readCloser) Close() error { return nil }

// openLocal makes a new server in local mode.
func (h *fixture) openLocal() { h.open(nil) }

// lockOut makes a new server with a key that no caller has, and sends wrong keys until
// it answers 429.
func (h *fixture) lockOut() {
	h.t.Helper()
	_, line, err := console.NewKey("viewer", "unused")
	if err != nil {
		h.t.Fatal(err)
	}
	path := filepath.Join(h.t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		h.t.Fatal(err)
	}
	keys, err := console.OpenKeys(path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	h.open(keys)
	for range 100 {
		if h.do(h.request(console.Viewer, "GET", "/v1/nodes", "")).Code == http.StatusTooManyRequests {
			return
		}
	}
	h.t.Fatal("never locked out")
}

// provokeInternal requests the paths while the broker panics.
func (h *fixture) provokeInternal(paths ...string) {
	h.t.Helper()
	h.broker.panics = true
	for _, path := range paths {
		if w := h.do(h.request(console.Operator, "GET", path, "")); w.Code != http.StatusInternalServerError {
			h.t.Errorf("%s: %d", path, w.Code)
		}
	}
	h.broker.panics = false
}
