package console_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/console"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

func TestRoles(t *testing.T) {
	h := newFixture(t)
	sid := h.broker.sessions[0].ID
	for _, tc := range []struct {
		method, path, body string
		may                string
	}{
		{"GET", "/v1/nodes", "", "viewer operator"},
		{"GET", "/v1/nodes/node-1", "", "viewer operator"},
		{"GET", "/v1/users/ada/sessions", "", "viewer operator backend"},
		{"GET", "/v1/sessions/" + sid, "", "viewer operator backend"},
		{"DELETE", "/v1/sessions/" + sid, "", "operator backend"},
		{"DELETE", "/v1/users/bob/sessions", "", "operator backend"},
		{"PUT", "/v1/nodes/node-1/drain", "", "operator"},
		{"DELETE", "/v1/nodes/node-1/drain", "", "operator"},
		{"POST", "/v1/sessions/" + sid + "/messages", `{"text":"x"}`, "backend"},
		{"POST", "/v1/users/ada/messages", `{"text":"x"}`, "backend"},
		{"POST", "/v1/assignments", `{"user":"ada"}`, "backend"},
	} {
		for _, role := range console.Roles {
			w := h.do(h.request(role, tc.method, tc.path, tc.body))
			if may := strings.Contains(tc.may, string(role)); may != (w.Code < 300) || !may && w.Code != http.StatusForbidden {
				t.Errorf("%s %s as %s: %d", tc.method, tc.path, role, w.Code)
			}
		}
	}
	if len(h.broker.ended) != 1 || h.broker.assigned.User != "ada" {
		t.Errorf("ended %v, assigned %+v", h.broker.ended, h.broker.assigned)
	}
}

func TestNodes(t *testing.T) {
	h := newFixture(t)
	var got struct{ Nodes []json.RawMessage }
	h.get(console.Viewer, "/v1/nodes", &got)
	want := []string{
		`{"id":"node-1","url":"wss://n1.example/v1/connect","region":"eu","pool":"default","state":"full","capacity":2000,"live":20,"attached":19,"arrived":91220,"pending":3,"estimate":26,"report_age_ms":430,"load_penalty":0,"reach":"reached","eligible":true,"version":"v1"}`,
		`{"id":"a/b c","pool":"vip","state":"draining","capacity":5,"live":3,"attached":1,"arrived":0,"pending":0,"estimate":0,"report_age_ms":0,"load_penalty":40,"reach":"never_reached","unreached":"refused","eligible":false,"why":"draining"}`,
	}
	if len(got.Nodes) != 2 || string(got.Nodes[0]) != want[0] || string(got.Nodes[1]) != want[1] {
		t.Errorf("got  %s\nwant %s", got.Nodes, want)
	}
	for path, want := range map[string]string{"/v1/nodes/node-1": want[0], "/v1/nodes/a%2Fb%20c": want[1]} {
		if w := h.do(h.request(console.Viewer, "GET", path, "")); w.Body.String() != want+"\n" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	h.broker.views = nil
	if w := h.do(h.request(console.Viewer, "GET", "/v1/nodes", "")); w.Body.String() != `{"nodes":[]}`+"\n" {
		t.Errorf("without nodes: %s", w.Body)
	}
	for _, path := range []string{"/v1/nodes/node-1", "/v1/nodes/", "/v1/nodes/a/b"} {
		if w := h.do(h.request(console.Viewer, "GET", path, "")); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestSessions(t *testing.T) {
	h := newFixture(t)
	first, second := h.broker.sessions[0].ID, h.broker.sessions[1].ID
	want := []string{
		`{"id":"` + first + `","user":"ada","node":"node-1","epoch":1,"state":"assigned","pool":"default","created":"2026-01-02T02:04:05.000006Z","changed":"2026-01-02T02:04:05.000006Z"}`,
		`{"id":"` + second + `","user":"ada","node":"node-1","epoch":2,"state":"attached","stream":"Q7ZK","pool":"vip","region":"eu","group":"match","created":"2026-01-02T02:04:05.000006Z","changed":"2026-01-02T02:04:06.000006Z"}`,
	}
	for path, want := range map[string]string{
		"/v1/users/ada/sessions":  `{"more":false,"sessions":[` + want[0] + "," + want[1] + "]}",
		"/v1/users/none/sessions": `{"more":false,"sessions":[]}`,
		"/v1/sessions/" + first:   want[0],
		"/v1/sessions/" + second:  want[1],
	} {
		if w := h.do(h.request(console.Viewer, "GET", path, "")); w.Body.String() != want+"\n" {
			t.Errorf("%s: %d\ngot  %swant %s", path, w.Code, w.Body, want)
		}
	}
}

func TestSessionsOfOddUsers(t *testing.T) {
	h := newFixture(t)
	for user, path := range map[string]string{
		"a/b":   "/v1/users/a%2Fb/sessions",
		"ä €":   "/v1/users/%C3%A4%20%E2%82%AC/sessions",
		"..":    "/v1/users/%2e%2e/sessions",
		"a%2Fb": "/v1/users/a%252Fb/sessions",
		"50%/x": "/v1/users/50%25%2Fx/sessions",
	} {
		h.broker.sessions = []session.Record{{
			ID: session.NewID(user), User: user, Node: "n", Epoch: 1, State: session.Assigned, Pool: "default", Created: born, Changed: born,
		}}
		var got struct{ Sessions []struct{ User string } }
		h.get(console.Viewer, path, &got)
		if len(got.Sessions) != 1 || got.Sessions[0].User != user {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

func TestManySessions(t *testing.T) {
	h := newFixture(t)
	for n, more := range map[int]bool{100: false, 101: true, 150: true} {
		h.broker.sessions = make([]session.Record, n)
		for i := range h.broker.sessions {
			h.broker.sessions[i] = session.Record{
				ID: session.NewID("ada"), User: "ada", Node: "n", Epoch: 1, State: session.Assigned, Pool: "default", Created: born, Changed: born,
			}
		}
		var got struct {
			Sessions []struct{ ID string }
			More     bool
		}
		h.get(console.Viewer, "/v1/users/ada/sessions", &got)
		if len(got.Sessions) != 100 || got.More != more || got.Sessions[99].ID != h.broker.sessions[99].ID {
			t.Errorf("of %d: %d, more %v", n, len(got.Sessions), got.More)
		}
	}
}

func TestEndedSession(t *testing.T) {
	h := newFixture(t)
	r := &h.broker.sessions[0]
	r.State, r.Reason = session.Ended, proto.CloseKicked
	var got struct {
		State  string
		Reason int
	}
	h.get(console.Viewer, "/v1/sessions/"+r.ID, &got)
	if got.State != "ended" || got.Reason != 4002 {
		t.Errorf("got %+v", got)
	}
}

func TestAssign(t *testing.T) {
	h := newFixture(t)
	w := h.do(h.request(console.Backend, "POST", "/v1/assignments",
		` {"user":"ada","placement":{"region":"eu","pool":"vip","group":"g"},"ext":{"rank": 3}} `))
	var a proto.Assignment
	decode(t, w, &a)
	if w.Code != 200 || a.User != "ada" || a.Node.ID != "node-1" || a.Token == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	got := h.broker.assigned
	if got.User != "ada" || !reflect.DeepEqual(got.Placement, proto.Placement{Region: "eu", Pool: "vip", Group: "g"}) || string(got.Ext) != `{"rank": 3}` {
		t.Errorf("assigned %+v", got)
	}
	if h.broker.deadline <= 0 || h.broker.deadline > 800*time.Millisecond {
		t.Errorf("the broker had %v", h.broker.deadline)
	}
	for name, value := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := w.Header().Get(name); got != value {
			t.Errorf("%s: %q", name, got)
		}
	}
	curl := h.request(console.Backend, "POST", "/v1/assignments", `{"user":"bob"}`)
	curl.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if w := h.do(curl); w.Code != 200 || h.broker.assigned.User != "bob" {
		t.Errorf("with curl -d: %d %s", w.Code, w.Body)
	}
}

func TestEndSession(t *testing.T) {
	h := newFixture(t)
	sid := h.broker.sessions[0].ID
	w := h.do(h.request(console.Operator, "DELETE", "/v1/sessions/"+sid, ""))
	if w.Code != http.StatusNoContent || h.broker.ended[sid] != proto.CloseKicked {
		t.Errorf("%d %s, ended %v", w.Code, w.Body, h.broker.ended)
	}
	if w := h.do(h.request(console.Operator, "DELETE", "/v1/sessions/none", "")); w.Code != http.StatusNotFound {
		t.Errorf("unknown session: %d", w.Code)
	}
}

func TestEndReasons(t *testing.T) {
	h := newFixture(t)
	sid := h.broker.sessions[0].ID
	h.do(h.request(console.Operator, "DELETE", "/v1/sessions/"+sid+"?reason=cheating", ""))
	if h.broker.reason != "cheating" {
		t.Errorf("reason %q", h.broker.reason)
	}
	var got struct{ Ended []string }
	w := h.do(h.request(console.Operator, "DELETE", "/v1/users/ada/sessions?reason=afk", ""))
	decode(t, w, &got)
	if len(got.Ended) != 2 || h.broker.reason != "afk" {
		t.Errorf("%+v, reason %q", got, h.broker.reason)
	}
	if w := h.do(h.request(console.Operator, "DELETE", "/v1/users/nobody/sessions", "")); w.Body.String() != `{"ended":[]}`+"\n" {
		t.Errorf("user without sessions: %d %s", w.Code, w.Body)
	}
}

func TestDrain(t *testing.T) {
	h := newFixture(t)
	drain := &proto.Drain{Total: 9, Remaining: 4, Held: 1, Cut: 2, Deadline: born.UTC()}
	h.broker.views[0].Report.Drain = drain
	var got struct {
		State string
		Drain *proto.Drain
	}
	h.get(console.Viewer, "/v1/nodes/node-1", &got)
	if got.Drain != nil {
		t.Errorf("a node that is not draining: %+v", got)
	}
	decode(t, h.do(h.request(console.Operator, "PUT", "/v1/nodes/node-1/drain", "")), &got)
	if got.State != "draining" || h.broker.drained["node-1"] != (proto.DrainRequest{}) {
		t.Errorf("%+v, %+v", got, h.broker.drained)
	}
	h.broker.views[0].Report.State = proto.StateDraining
	h.do(h.request(console.Operator, "PUT", "/v1/nodes/node-1/drain", `{"window_ms":5,"timeout_ms":6,"keep":true}`))
	if h.broker.drained["node-1"] != (proto.DrainRequest{WindowMS: 5, TimeoutMS: 6, Keep: true}) {
		t.Errorf("%+v", h.broker.drained)
	}
	h.get(console.Viewer, "/v1/nodes/node-1", &got)
	if got.Drain == nil || *got.Drain != *drain {
		t.Errorf("%+v", got)
	}
	got.Drain = nil
	decode(t, h.do(h.request(console.Operator, "DELETE", "/v1/nodes/node-1/drain", "")), &got)
	if got.State != "ready" || got.Drain != nil || len(h.broker.drained) != 0 {
		t.Errorf("%+v, %+v", got, h.broker.drained)
	}
}

func TestPush(t *testing.T) {
	h := newFixture(t)
	sid := h.broker.sessions[0].ID
	r := h.request(console.Backend, "POST", "/v1/sessions/"+sid+"/messages", `{"text":"hi","volatile":true}`)
	r.Header.Set("Idempotency-Key", "k-1")
	if w := h.do(r); w.Body.String() != `{"session":"`+sid+`","node":"node-1","result":"sent"}`+"\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if m := h.broker.pushed[0]; *m.Text != "hi" || !m.Volatile || h.broker.key != "k-1" {
		t.Errorf("%+v, key %q", m, h.broker.key)
	}
	for result, want := range map[string]string{
		proto.PushSent: "200 ", proto.PushBuffered: "200 ", proto.PushDropped: "200 ", proto.PushFull: "409 full",
		proto.PushNotAttached: "409 not_attached", proto.PushEnded: "410 session_ended", proto.PushUnavailable: "503 node_unavailable",
	} {
		h.broker.result = result
		for _, path := range []string{"/v1/sessions/" + sid + "/messages", "/v1/users/ada/messages"} {
			w := h.do(h.request(console.Backend, "POST", path, `{"data":"eA=="}`))
			if got := fmt.Sprint(w.Code, " ", problemOf(t, w).Code); got != want {
				t.Errorf("%s, %s: %s", result, path, got)
			}
		}
	}
	for _, key := range []string{strings.Repeat("k", 65), "a b", "ä"} {
		r := h.request(console.Backend, "POST", "/v1/sessions/"+sid+"/messages", `{"text":"hi"}`)
		r.Header["Idempotency-Key"] = []string{key}
		h.spec = nil
		w := httptest.NewRecorder()
		h.handler.ServeHTTP(w, r) // not checked: the request itself violates the specification
		if w.Code != http.StatusBadRequest {
			t.Errorf("key %q: %d", key, w.Code)
		}
	}
}

// The audit log has every change, also one that failed, with the caller. It does not have
// reads.
func TestAudit(t *testing.T) {
	h := newFixture(t)
	sid := h.broker.sessions[0].ID
	h.do(h.request(console.Viewer, "GET", "/v1/sessions/"+sid, ""))
	h.do(h.request(console.Backend, "POST", "/v1/assignments", `{"user":"bob"}`))
	h.do(h.request(console.Operator, "DELETE", "/v1/sessions/"+sid, ""))
	h.do(h.request(console.Viewer, "DELETE", "/v1/sessions/"+sid, ""))
	h.do(h.request(console.Backend, "DELETE", "/v1/sessions/x%0ay", ""))
	h.broker.err = session.ErrUnavailable
	h.do(h.request(console.Backend, "POST", "/v1/assignments", `{"user":"bob"}`))
	want := []string{
		"assign the-backend backend ok bob node-1",
		"end the-operator operator ok <nil> <nil>",
		"end the-viewer viewer forbidden <nil> <nil>",
		"end the-backend backend not_found <nil> <nil>",
		"assign the-backend backend store_unavailable bob <nil>",
	}
	lines := h.audits()
	if len(lines) != len(want) {
		t.Fatalf("got %d lines: %v", len(lines), lines)
	}
	for i, l := range lines {
		if got := fmt.Sprint(l["action"], " ", l["by"], " ", l["role"], " ", l["outcome"], " ", l["user"], " ", l["node"]); got != want[i] {
			t.Errorf("line %d: %s, want %s", i, got, want[i])
		}
		if l["client"] != "127.0.0.1:40000" {
			t.Errorf("line %d: client %v", i, l["client"])
		}
	}
	if lines[1]["session"] != sid || lines[0]["session"] == nil {
		t.Errorf("sessions %v and %v", lines[0]["session"], lines[1]["session"])
	}
	for role, key := range h.keys {
		if strings.Contains(h.log.String(), key) {
			t.Errorf("the key of role %s is in the log", role)
		}
	}
	if strings.Contains(h.log.String(), "eyJ") {
		t.Error("a token is in the log")
	}
}

func TestMethods(t *testing.T) {
	h := newFixture(t)
	for path, want := range map[string]string{
		"/v1/assignments": "POST", "/v1/nodes": "GET", "/v1/sessions/x": "GET, DELETE", "/v1/users/a%2Fb/sessions": "GET, DELETE",
		"/v1/nodes/x/drain": "PUT, DELETE", "/v1/sessions/x/messages": "POST", "/v1/users/x/messages": "POST",
	} {
		w := h.do(h.request(console.Backend, "PATCH", path, ""))
		if got := w.Header().Get("Allow"); w.Code != http.StatusMethodNotAllowed || got != want {
			t.Errorf("%s: %d, %q, want %q", path, w.Code, got, want)
		}
	}
	if w := h.do(h.request("", "PUT", "/v1/nodes", "")); w.Code != http.StatusUnauthorized {
		t.Errorf("without a key: %d", w.Code)
	}
	if w := h.do(h.request("", "GET", "/secret", "")); w.Code != http.StatusUnauthorized {
		t.Errorf("unknown path, without a key: %d", w.Code)
	}
}

var _ console.Broker = (*broker.Broker)(nil)
