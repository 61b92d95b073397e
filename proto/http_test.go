package proto_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

func TestWriteProblem(t *testing.T) {
	w := httptest.NewRecorder()
	p := &proto.Problem{Status: 503, Code: proto.ProblemNoCapacity, Detail: "All nodes are full.", RetryAfter: 2}
	proto.WriteProblem(w, p)
	if w.Code != 503 {
		t.Errorf("status %d", w.Code)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/problem+json", "Retry-After": "2",
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	const want = `{"type":"urn:usher:problem:no_capacity","title":"Service Unavailable","status":503,"detail":"All nodes are full.","code":"no_capacity"}` + "\n"
	if got := w.Body.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if p.Type != "" || p.Title != "" {
		t.Error("the problem was changed")
	}
}

func TestWriteProblemKeepsTypeAndTitle(t *testing.T) {
	w := httptest.NewRecorder()
	proto.WriteProblem(w, &proto.Problem{Type: "about:blank", Title: "No", Status: http.StatusForbidden, Code: proto.ProblemForbidden})
	const want = `{"type":"about:blank","title":"No","status":403,"code":"forbidden"}` + "\n"
	if got := w.Body.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, ok := w.Header()["Retry-After"]; ok {
		t.Error("there is a Retry-After although RetryAfter is 0")
	}
}

func TestProblemIsAnError(t *testing.T) {
	var err error = &proto.Problem{Status: 410, Code: proto.ProblemSessionEnded}
	if got, want := err.Error(), "410 session_ended"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	err = &proto.Problem{Status: 410, Code: proto.ProblemSessionEnded, Detail: "Log in again."}
	if got, want := err.Error(), "410 session_ended: Log in again."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The exact JSON of the bodies that cross a process boundary.
func TestBodiesGolden(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		v    any
		want string
	}{
		{proto.LoginRequest{Method: "guest"}, `{"method":"guest"}`},
		{
			proto.LoginRequest{Method: "password", Credentials: json.RawMessage(`{"username":"ada","password":"x"}`), Placement: proto.Placement{Region: "eu", Pool: "p", Group: "g"}},
			`{"method":"password","credentials":{"username":"ada","password":"x"},"placement":{"region":"eu","pool":"p","group":"g"}}`,
		},
		{proto.PasswordCredentials{Username: "ada", Password: "x"}, `{"username":"ada","password":"x"}`},
		{proto.GuestCredentials{Name: "ada"}, `{"name":"ada"}`},
		{
			proto.Assignment{Token: "t", TokenExpiresAt: at, Session: "s", User: "ada", Node: proto.NodeAddress{ID: "node-7", URL: "wss://h/v1/connect"}},
			`{"token":"t","token_expires_at":"2026-01-02T03:04:05Z","session":"s","user":"ada","node":{"id":"node-7","url":"wss://h/v1/connect"}}`,
		},
		{proto.ReconnectRequest{}, `{}`},
		{proto.ReconnectRequest{Unreachable: "node-7"}, `{"unreachable":"node-7"}`},
		{proto.AssignmentRequest{User: "ada", Ext: json.RawMessage(`{"rank":3}`)}, `{"user":"ada","ext":{"rank":3}}`},
		{
			proto.Claims{Issuer: "auth-1/8f", Audience: "usher", User: "ada", Session: "s", Node: "node-7", Epoch: 2, IssuedAt: 10, NotBefore: 10, Expires: 20, ID: "j"},
			`{"iss":"auth-1/8f","aud":"usher","sub":"ada","sid":"s","nid":"node-7","ep":2,"iat":10,"nbf":10,"exp":20,"jti":"j"}`,
		},
		{proto.Command{Op: proto.OpEnd, Session: "s", Code: proto.CloseKicked}, `{"op":"end","session":"s","code":4002}`},
		{proto.Command{Op: proto.OpMoved, Session: "s", Epoch: 2}, `{"op":"moved","session":"s","epoch":2}`},
		{proto.CommandResult{}, `{"found":false}`},
		{proto.CommandResult{Found: true, Error: "no"}, `{"found":true,"error":"no"}`},
	} {
		b, err := json.Marshal(tc.v)
		if err != nil || string(b) != tc.want {
			t.Errorf("%T: got %s, %v\nwant %s", tc.v, b, err, tc.want)
		}
		back := reflect.New(reflect.TypeOf(tc.v))
		if err := json.Unmarshal([]byte(tc.want), back.Interface()); err != nil || !reflect.DeepEqual(back.Elem().Interface(), tc.v) {
			t.Errorf("%T: back as %+v, %v", tc.v, back.Elem().Interface(), err)
		}
	}
}
