package usher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/proto"
)

// cluster is a fake auth service and fake nodes that a test controls, on a network
// in memory.
type cluster struct {
	t     *testing.T
	net   network
	auth  *fakeAuth
	nodes map[string]*fakeNode
	start time.Time

	states chan StateChange // arguments of OnState
	resets chan Reset
}

// inCluster runs a test with a cluster in a synctest bubble, where time costs nothing.
func inCluster(t *testing.T, f func(t *testing.T, w *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &cluster{t: t, nodes: map[string]*fakeNode{}, start: time.Now(), states: make(chan StateChange, 100), resets: make(chan Reset, 100)}
		tooLong := time.AfterFunc(100*time.Hour, func() { panic("the test waits for an event that does not come") })
		defer tooLong.Stop()
		w.auth = &fakeAuth{cluster: w, requests: make(chan authRequest, 100)}
		var servers []*http.Server
		serve := func(addr string, h http.Handler) {
			s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
			servers = append(servers, s)
			l := w.net.listen(addr)
			go func() { _ = s.Serve(l) }()
		}
		serve("auth:80", w.auth)
		for _, id := range []string{"n1", "n2"} {
			n := &fakeNode{cluster: w, id: id, attempts: make(chan *attempt, 100)}
			w.nodes[id] = n
			serve(id+":80", n)
		}
		defer func() {
			for _, s := range servers {
				_ = s.Close()
			}
			w.net.cut()
			for _, n := range w.nodes {
				n.drop()
			}
		}()
		f(t, w)
	})
}

// config returns a configuration for the cluster: a guest, and every wait half of its
// ceiling.
func (w *cluster) config() Config {
	return Config{
		Auth: "http://auth", Credentials: Guest("ada"), Dial: w.net.Dial, NoKey: true,
		Rand:    func() float64 { return 0.5 },
		OnState: func(c StateChange) { w.states <- c },
		OnReset: func(r Reset) { w.resets <- r },
	}
}

// connect calls Connect in the background. The result waits for its return.
func (w *cluster) connect(cfg Config) func() (*Session, error) {
	type result struct {
		s   *Session
		err error
	}
	c := make(chan result, 1)
	go func() {
		s, err := Connect(context.Background(), cfg)
		c <- result{s, err}
	}()
	return func() (*Session, error) { r := <-c; return r.s, r.err }
}

// attach connects, and node n1 sends a welcome with stream s1.
func (w *cluster) attach() (*Session, *peer) {
	w.t.Helper()
	return w.attachWith(w.config(), nil)
}

func (w *cluster) attachWith(cfg Config, change func(*proto.Welcome)) (*Session, *peer) {
	w.t.Helper()
	got := w.connect(cfg)
	p := w.nodes["n1"].next().accept()
	p.welcome(func(wel *proto.Welcome) {
		if change != nil {
			change(wel)
		}
	})
	s, err := got()
	if err != nil {
		w.t.Fatalf("connect: %v", err)
	}
	w.t.Cleanup(func() { leave(s) })
	w.wantState(Attached)
	return s, p
}

// leave closes a session without waiting for confirmations.
func leave(s *Session) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Close(ctx)
	<-s.done
}

func (w *cluster) since() time.Duration { return time.Since(w.start) }

func (w *cluster) wantState(want State) StateChange {
	w.t.Helper()
	c := <-w.states
	if c.State != want {
		w.t.Fatalf("state %s (%v), want %s", c.State, c.Err, want)
	}
	return c
}

func (w *cluster) wantEnded(code proto.CloseCode) StateChange {
	w.t.Helper()
	c := w.wantState(Ended)
	var end *EndedError
	if !errors.As(c.Err, &end) || end.Code != code {
		w.t.Fatalf("ended with %v, want code %d", c.Err, code)
	}
	return c
}

// fakeAuth answers with node or n1, unless answer does.
type fakeAuth struct {
	cluster  *cluster
	requests chan authRequest

	mu     sync.Mutex
	answer func(w http.ResponseWriter, r authRequest) bool // returns true if it has answered
	node   string
	tokens int
}

type authRequest struct {
	path, token, body string
	header            http.Header
	at                time.Duration
}

func (a *fakeAuth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	req := authRequest{path: r.URL.Path, body: string(b), header: r.Header, at: a.cluster.since()}
	req.token = r.Header.Get("Authorization")
	a.mu.Lock()
	answer, node := a.answer, a.node
	a.tokens++
	token := fmt.Sprintf("token-%d", a.tokens)
	a.mu.Unlock()
	if node == "" {
		node = "n1"
	}
	a.requests <- req
	switch {
	case answer != nil && answer(w, req):
	case r.URL.Path == "/v1/logout":
		w.WriteHeader(http.StatusNoContent)
	default:
		_ = json.NewEncoder(w).Encode(assign(node, token))
	}
}

func assign(node, token string) proto.Assignment {
	return proto.Assignment{
		Token: token, TokenExpiresAt: time.Now().Add(time.Hour), Session: "sid", User: "ada",
		Node: proto.NodeAddress{ID: node, URL: "ws://" + node + proto.ConnectPath},
	}
}

// answers sets the answer of auth from now on; nil for an assignment.
func (a *fakeAuth) answers(f func(w http.ResponseWriter, r authRequest) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = f
}

// names sets the node that auth names from now on.
func (a *fakeAuth) names(node string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.node = node
}

func refuse(status int, code string, retryAfter int) func(http.ResponseWriter, authRequest) bool {
	return func(w http.ResponseWriter, _ authRequest) bool {
		proto.WriteProblem(w, &proto.Problem{Status: status, Code: code, Detail: "no", RetryAfter: retryAfter})
		return true
	}
}

// want waits for the next request and checks it.
func (a *fakeAuth) want(path, body string) authRequest {
	a.cluster.t.Helper()
	r := <-a.requests
	if r.path != path || body != "" && r.body != body {
		a.cluster.t.Fatalf("auth got %s %s, want %s %s", r.path, r.body, path, body)
	}
	return r
}
