package auth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/usher-broker/usher/auth/credential"
	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeBroker answers with a node and a signed token, or with err.
type fakeBroker struct {
	keys *token.KeySet

	mu          sync.Mutex
	err         error
	hang        bool // until the context ends
	takes       time.Duration
	panics      bool
	assigned    []proto.AssignmentRequest
	reassigned  []proto.Claims
	unreachable string
	ended       []string
	ahead       int // how many calls of Enter make a login wait
	estimate    time.Duration
	entries     []string // passed to Enter
	proofs      map[string]uint64
	code        proto.CloseCode
}

const (
	testSession = "01.aaaaaaaaaaaaaaaaaaaaaaaaaa"
	testURL     = "ws://127.0.0.1:7001/v1/connect"
)

func (b *fakeBroker) outcome(ctx context.Context) error {
	if b.panics {
		panic("broker panics")
	}
	if b.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	select {
	case <-time.After(b.takes):
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *fakeBroker) claims(user string) proto.Claims {
	now := time.Now().Unix()
	return proto.Claims{
		Issuer: "auth-1/1", Audience: proto.TokenAudience, User: user, Session: testSession, Node: "node-7",
		Epoch: 1, IssuedAt: now, NotBefore: now, Expires: now + 3600, ID: rand.Text(),
	}
}

func (b *fakeBroker) assignment(user string) (proto.Assignment, error) {
	c := b.claims(user)
	raw, err := b.keys.Sign(c)
	return proto.Assignment{
		Token: raw, TokenExpiresAt: time.Unix(c.Expires, 0).UTC(), Session: c.Session, User: user,
		Node: proto.NodeAddress{ID: c.Node, URL: testURL},
	}, err
}

func (b *fakeBroker) Assign(ctx context.Context, req proto.AssignmentRequest) (proto.Assignment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.outcome(ctx); err != nil {
		return proto.Assignment{}, err
	}
	b.assigned = append(b.assigned, req)
	return b.assignment(req.User)
}

func (b *fakeBroker) Enter(ctx context.Context, req proto.AssignmentRequest, entry string) (proto.Assignment, broker.Waiting, error) {
	b.mu.Lock()
	if b.ahead > 0 {
		defer b.mu.Unlock()
		b.ahead--
		b.entries = append(b.entries, entry)
		return proto.Assignment{}, broker.Waiting{
			Entry: "entry-1", Ahead: b.ahead, Waiting: 7, Estimate: b.estimate, Again: 20 * time.Millisecond,
		}, nil
	}
	b.entries = append(b.entries, entry)
	b.mu.Unlock()
	a, err := b.Assign(ctx, req)
	return a, broker.Waiting{}, err
}

func (b *fakeBroker) Reassign(ctx context.Context, c proto.Claims, unreachable string) (proto.Assignment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.outcome(ctx); err != nil {
		return proto.Assignment{}, err
	}
	b.reassigned, b.unreachable = append(b.reassigned, c), unreachable
	return b.assignment(c.User)
}

func (b *fakeBroker) End(ctx context.Context, sid string, code proto.CloseCode, _ string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.outcome(ctx); err != nil {
		return err
	}
	b.ended, b.code = append(b.ended, sid), code
	return nil
}

func (b *fakeBroker) Prove(ctx context.Context, sid string, proof uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.outcome(ctx); err != nil {
		return err
	}
	if proof <= b.proofs[sid] {
		return session.ErrReplayed
	}
	if b.proofs == nil {
		b.proofs = map[string]uint64{}
	}
	b.proofs[sid] = proof
	return nil
}

// only is a provider with one account.
type only struct {
	user, password string
	err            error // for any credentials
	mu             *sync.Mutex
	asked          *int
}

func newOnly() only {
	return only{user: "ada", password: "correct horse", mu: new(sync.Mutex), asked: new(int)}
}

func (o only) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return *o.asked
}

func (o only) Verify(_ context.Context, credentials json.RawMessage) (credential.Identity, error) {
	o.mu.Lock()
	*o.asked++
	o.mu.Unlock()
	if o.err != nil {
		return credential.Identity{}, o.err
	}
	var c proto.PasswordCredentials
	if err := json.Unmarshal(credentials, &c); err != nil {
		return credential.Identity{}, credential.ErrMalformed
	}
	if c.Username != o.user || c.Password != o.password {
		return credential.Identity{}, credential.ErrInvalidCredentials
	}
	return credential.Identity{User: o.user, Ext: json.RawMessage(`{"team":"red"}`)}, nil
}

func (o only) Account(credentials json.RawMessage) string {
	var c proto.PasswordCredentials
	_ = json.Unmarshal(credentials, &c)
	return c.Username
}

// fixture is a server with fakes of everything it depends on.
type fixture struct {
	*Server
	t        testing.TB
	broker   *fakeBroker
	password only
	registry *prometheus.Registry
	log      *logBuffer
}

func newFixture(t testing.TB, change func(*Config)) *fixture {
	t.Helper()
	keys, err := token.NewKeySet()
	if err != nil {
		t.Fatal(err)
	}
	d := &fixture{
		t: t, broker: &fakeBroker{keys: keys}, password: newOnly(),
		registry: prometheus.NewRegistry(), log: &logBuffer{},
	}
	cfg := Config{
		Broker: d.broker, Verifier: &token.Verifier{Keys: keys}, JWKS: keys.JWKS,
		Providers: map[string]credential.Provider{"password": d.password, "guest": credential.Guest{}},
		Registry:  d.registry, Logger: slog.New(slog.NewTextHandler(d.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	if d.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return d
}

// answer is a response with its body read.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request; header is name, value, name, value. It compares every answer with
// the OpenAPI description.
func (d *fixture) do(method, path, body string, header ...string) answer {
	d.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Del(header[i])
		if header[i+1] != "" {
			r.Header.Set(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, r)
	a := answer{w.Code, w.Result().Header, w.Body.String()}
	conform(d.t, r, a)
	return a
}

func (d *fixture) login(body string, header ...string) answer {
	d.t.Helper()
	return d.do("POST", "/v1/login", body, header...)
}

// problem checks that the answer is that problem, and returns it.
func (a answer) problem(t testing.TB, status int, code string) proto.Problem {
	t.Helper()
	var p proto.Problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%d with body %q: %v", a.status, a.body, err)
	}
	if a.status != status || p.Status != status || p.Code != code || p.Type != proto.ProblemTypePrefix+code || p.Title == "" || p.Detail == "" {
		t.Errorf("answer is %d %+v, want %d %s", a.status, p, status, code)
	}
	if got := a.header.Get("Content-Type"); got != proto.ProblemContentType {
		t.Errorf("Content-Type is %q", got)
	}
	retry := a.header.Get("Retry-After")
	if want := status == 429 || status == 503; (retry != "") != want {
		t.Errorf("%d with Retry-After %q", status, retry)
	}
	return p
}

// assignment checks that the answer is an assignment, and returns it.
func (a answer) assignment(t testing.TB) proto.Assignment {
	t.Helper()
	var got proto.Assignment
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 200 {
		t.Fatalf("%d with body %q: %v", a.status, a.body, err)
	}
	if got.Token == "" || got.Session == "" || got.User == "" || got.Node.ID == "" || got.Node.URL == "" || got.TokenExpiresAt.IsZero() {
		t.Errorf("assignment is %+v", got)
	}
	if c := a.header.Get("Cache-Control"); c != "no-store" {
		t.Errorf("a token with Cache-Control %q", c)
	}
	return got
}

// logBuffer stores the log.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var _ io.Writer = (*logBuffer)(nil)

// noCheck is a provider that returns the same user for all credentials.
type noCheck struct{ user string }

func (n noCheck) Verify(context.Context, json.RawMessage) (credential.Identity, error) {
	return credential.Identity{User: n.user}, nil
}

// discard is a ResponseWriter that stores only the status.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

func post(path, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// slowProvider takes some time, or returns when its context ends.
type slowProvider struct{ takes time.Duration }

func (s slowProvider) Verify(ctx context.Context, _ json.RawMessage) (credential.Identity, error) {
	select {
	case <-time.After(s.takes):
		return credential.Identity{User: "ada"}, nil
	case <-ctx.Done():
		return credential.Identity{}, ctx.Err()
	}
}
