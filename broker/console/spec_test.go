package console_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/console"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

func init() { openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.PlainBodyDecoder) }

// spec is openapi.yaml, and the answers of it that the tests have seen.
type spec struct {
	doc    *openapi3.T
	router routers.Router
	seen   map[string]bool // "operation status"
}

func readSpec(t *testing.T) *spec {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../../proto/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range doc.Paths.Map() {
		item.Servers = nil // the tests use other addresses
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return &spec{doc: doc, router: router, seen: map[string]bool{}}
}

// check checks an answer against the specification. The answer to a path that is not in
// the specification must be a problem document.
func (s *spec) check(t *testing.T, r *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	route, params, err := s.route(r)
	if err != nil {
		name, ok := map[int]string{401: "InvalidToken", 404: "NotFound"}[w.Code]
		if !ok {
			t.Fatalf("%s %s is not in the specification: %d", r.Method, r.URL, w.Code)
		}
		var body any
		decode(t, w, &body)
		if err := s.doc.Components.Schemas[name].Value.VisitJSON(body, openapi3.EnableJSONSchema2020()); err != nil {
			t.Errorf("%s %s: %d, %v", r.Method, r.URL, w.Code, err)
		}
		return
	}
	s.see(route, w.Code)
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 w.Code, Header: w.Header(),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	input.SetBodyBytes(w.Body.Bytes())
	if err := openapi3filter.ValidateResponse(context.Background(), input); err != nil {
		t.Errorf("%s %s: %d %s\n%v", r.Method, r.URL, w.Code, w.Body, err)
	}
	if w.Code == http.StatusNoContent && w.Body.Len() > 0 {
		t.Errorf("%s %s: a body with 204", r.Method, r.URL)
	}
}

// see records an answer. An answer to a method that the path does not support counts for
// all operations of the path.
func (s *spec) see(route *routers.Route, status int) {
	for _, o := range route.PathItem.Operations() {
		if o == route.Operation || status == http.StatusMethodNotAllowed {
			s.seen[fmt.Sprint(o.OperationID, " ", status)] = true
		}
	}
}

// route finds the operation of a request. If the path does not support the method, it
// returns another operation of the path.
func (s *spec) route(r *http.Request) (*routers.Route, map[string]string, error) {
	route, params, err := s.router.FindRoute(r)
	for _, method := range []string{"GET", "POST", "DELETE"} {
		if !errors.Is(err, routers.ErrMethodNotAllowed) {
			break
		}
		other := r.Clone(r.Context())
		other.Method = method
		route, params, err = s.router.FindRoute(other)
	}
	return route, params, err
}

func TestSpecIsValid(t *testing.T) {
	s := readSpec(t)
	if !s.doc.IsOpenAPI31OrLater() {
		t.Errorf("the document is OpenAPI %s, want 3.1 or later", s.doc.OpenAPI)
	}
	if err := s.doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
}

// If the specification accepted anything, the other tests would be worthless.
func TestSpecRefusesWrongDocuments(t *testing.T) {
	s := readSpec(t)
	for name, v := range map[string]any{
		"Problem":      map[string]any{"type": "urn:usher:problem:x", "title": "x", "status": 400.0},
		"Forbidden":    map[string]any{"type": "urn:usher:problem:x", "title": "x", "status": 403.0, "code": "not_found"},
		"Nodes":        map[string]any{"nodes": nil},
		"Sessions":     map[string]any{"sessions": []any{}, "more": false, "next": "x"},
		"Assignment":   map[string]any{"token": "x", "session": "s", "user": "ada", "node": map[string]any{"id": "n", "url": "ws://n"}},
		"JWKSet":       map[string]any{"keys": []any{map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": "k", "alg": "EdDSA", "x": strings.Repeat("x", 43), "d": "private"}}},
		"LoginRequest": map[string]any{"credentials": map[string]any{}},
	} {
		if err := s.doc.Components.Schemas[name].Value.VisitJSON(v, openapi3.EnableJSONSchema2020()); err == nil {
			t.Errorf("%s: %v passes", name, v)
		}
	}
}

// The server gives every answer that the specification describes for the private
// operations, in that form, and no other.
func TestEveryAnswer(t *testing.T) {
	h := newFixture(t)
	sid := h.broker.sessions[0].ID
	type op struct {
		id, method, path, body string
		role, other            console.Role // a role that may call it, and one that may not
	}
	ops := []op{
		{"assign", "POST", "/v1/assignments", `{"user":"ada"}`, console.Backend, console.Operator},
		{"me", "GET", "/v1/me", "", console.Viewer, ""},
		{"events", "GET", "/v1/events", "", console.Operator, console.Backend},
		{"explain", "GET", "/v1/explain?user=ada", "", console.Backend, ""},
		{"nodes", "GET", "/v1/nodes", "", console.Viewer, console.Backend},
		{"node", "GET", "/v1/nodes/node-1", "", console.Operator, console.Backend},
		{"userSessions", "GET", "/v1/users/ada/sessions", "", console.Viewer, ""},
		{"session", "GET", "/v1/sessions/" + sid, "", console.Backend, ""},
		{"endSession", "DELETE", "/v1/sessions/" + sid, "", console.Operator, console.Viewer},
		{"endUser", "DELETE", "/v1/users/ada/sessions?reason=cheating", "", console.Backend, console.Viewer},
		{"drainNode", "PUT", "/v1/nodes/node-1/drain", `{"keep":true}`, console.Operator, console.Backend},
		{"undrainNode", "DELETE", "/v1/nodes/node-1/drain", "", console.Operator, console.Viewer},
		{"pushSession", "POST", "/v1/sessions/" + sid + "/messages", `{"text":"x"}`, console.Backend, console.Operator},
		{"pushUser", "POST", "/v1/users/ada/messages", `{"data":"eA==","volatile":true}`, console.Backend, console.Viewer},
	}
	for _, o := range ops {
		h.do(h.request(o.role, o.method, o.path, o.body))
		h.do(h.request("", o.method, o.path, o.body))
		if o.other != "" {
			h.do(h.request(o.other, o.method, o.path, o.body))
		}
		for _, err := range []error{
			broker.ErrInvalid, session.ErrNotFound, session.ErrUnavailable, placement.ErrNoCapacity, placement.ErrNoNodes,
			session.ErrConnected, broker.ErrNoNode, broker.ErrNodeUnavailable, context.DeadlineExceeded, errors.New("a bug"),
		} {
			if !fits(o.id, err) {
				continue
			}
			h.broker.err = fmt.Errorf("somewhere: %w", err)
			h.do(h.request(o.role, o.method, o.path, o.body))
			h.broker.err = nil
		}
		h.do(h.request(o.role, "PATCH", o.path, ""))
		if strings.HasPrefix(o.id, "push") {
			for _, h.broker.result = range []string{proto.PushFull, proto.PushNotAttached, proto.PushEnded, proto.PushUnavailable, proto.PushDropped} {
				h.do(h.request(o.role, o.method, o.path, o.body))
			}
		}
		if o.body != "" {
			h.badBodies(o.role, o.method, o.path)
		}
	}
	h.tooManyStreams()
	h.do(h.request(console.Viewer, "GET", "/v1/nodes/none", ""))
	for _, query := range []string{"?user=ada&colour=red", "?user=ada&strict=perhaps"} {
		if w := h.do(h.request(console.Viewer, "GET", "/v1/explain"+query, "")); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", query, w.Code)
		}
	}
	h.do(h.request(console.Viewer, "GET", "/v1/explain?user=ada&region=eu&fallback=us&fallback=ap&strict=true&pool=p&group=g&unreachable=node-3", ""))
	want := proto.Placement{Region: "eu", Fallback: []string{"us", "ap"}, Strict: true, Pool: "p", Group: "g"}
	if got := h.broker.assigned; got.User != "ada" || !reflect.DeepEqual(got.Placement, want) || h.broker.unreachable != "node-3" {
		t.Errorf("the broker got %+v, %q", got, h.broker.unreachable)
	}
	h.do(h.request(console.Viewer, "GET", "/v1/nowhere", ""))

	h.provokeInternal("/v1/nodes", "/v1/nodes/node-1")
	h.openLocal()
	for _, o := range ops { // from another machine
		r := h.request("", o.method, o.path, o.body)
		r.RemoteAddr = "192.0.2.1:1"
		h.do(r)
	}
	h.lockOut()
	for _, o := range ops {
		for range 10 { // on a slow machine, another failure may be allowed meanwhile
			if h.do(h.request("", o.method, o.path, o.body)).Code == http.StatusTooManyRequests {
				break
			}
		}
	}

	var missing []string
	for path, item := range h.spec.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			if !slices.Contains(operation.Tags, "private") {
				continue
			}
			for status := range operation.Responses.Map() {
				if !h.spec.seen[operation.OperationID+" "+status] {
					missing = append(missing, method+" "+path+" "+status)
				}
			}
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		t.Errorf("the server never gave these answers of the specification:\n%s", strings.Join(missing, "\n"))
	}
}

// tooManyStreams opens streams of events up to the limit, and one more.
func (h *fixture) tooManyStreams() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range 200 {
		r := h.request(console.Viewer, "GET", "/v1/events", "").WithContext(ctx)
		started := make(chan struct{})
		wg.Go(func() {
			h.handler.ServeHTTP(&streamWriter{ResponseRecorder: httptest.NewRecorder(), started: started}, r)
		})
		<-started
	}
	if w := h.do(h.request(console.Viewer, "GET", "/v1/events", "")); w.Code != http.StatusServiceUnavailable {
		h.t.Errorf("one stream too many: %d", w.Code)
	}
}

// streamWriter closes started when the first event is written.
type streamWriter struct {
	*httptest.ResponseRecorder
	started chan struct{}
	once    sync.Once
}

func (w *streamWriter) Flush() { w.once.Do(func() { close(w.started) }) }

// badBodies sends bodies that the server refuses.
func (h *fixture) badBodies(role console.Role, method, path string) {
	large := h.request(role, method, path, strings.Repeat(" ", 16<<10)+"{}")
	h.do(large)
	form := h.request(role, method, path, "{}")
	form.Header.Set("Content-Type", "text/plain")
	h.do(form)
	slow := h.request(role, method, path, "{}")
	slow.Body = http.MaxBytesReader(nil, readCloser{iotest.ErrReader(os.ErrDeadlineExceeded)}, 10)
	h.do(slow)
}

// fits reports whether the broker can return the error for the operation.
func fits(op string, err error) bool {
	if op == "me" || op == "events" {
		return false // they call no method of the broker that can fail
	}
	switch err {
	case broker.ErrInvalid:
		return !slices.Contains([]string{"nodes", "node", "session", "undrainNode"}, op)
	case session.ErrNotFound:
		return op == "session" || op == "endSession" || op == "pushSession" || op == "pushUser"
	case session.ErrConnected:
		return op == "assign"
	case broker.ErrNoNode, broker.ErrNodeUnavailable:
		return op == "drainNode" || op == "undrainNode"
	case session.ErrUnavailable, context.DeadlineExceeded:
		return op != "nodes" && op != "node" && op != "drainNode" && op != "undrainNode"
	case placement.ErrNoCapacity, placement.ErrNoNodes:
		return op == "assign"
	}
	return op != "nodes" && op != "node"
}
