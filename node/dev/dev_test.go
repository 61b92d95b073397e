package dev

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/node"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(int) { http.DefaultClient.CloseIdleConnections() }))
}

// named answers each message with the name of its node.
type named struct {
	node.Echo
	id string
}

func (n named) Message(s *node.Session, _ node.Message) {
	_ = s.Send(node.Message{Data: []byte(n.id), Text: true})
}

// perNode has an instance for each node.
type perNode struct{ node.Echo }

func (perNode) ForNode(id string) node.App { return named{id: id} }

func testConfig() Config {
	return Config{
		Auth: "127.0.0.1:0", API: "127.0.0.1:0", Ops: "127.0.0.1:0", NodePort: freePort, Logger: slog.New(slog.DiscardHandler), Out: io.Discard,
	}
}

// freePort is where the nodes of tests begin to look for a free port.
const freePort = 23_100

// exchange sends a message and returns the answer.
func exchange(t *testing.T, s *usher.Session, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.SendText(ctx, text); err != nil {
		t.Fatal(err)
	}
	m, err := s.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return string(m.Data)
}

func connect(t *testing.T, c *Cluster, name string) *usher.Session {
	t.Helper()
	s, err := usher.Connect(t.Context(), usher.Config{Auth: "http://" + c.AuthAddr(), Credentials: usher.Guest(name)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

func start3(t *testing.T, app node.App) *Cluster {
	t.Helper()
	c, err := Start(app, testConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Each node has the instance that ForNode returns for it, and a client resumes on
// another node when its node drains or is killed.
func TestCluster(t *testing.T) {
	c := start3(t, perNode{})
	s := connect(t, c, "ada")
	first := s.Node()
	if got := exchange(t, s, "who?"); got != first {
		t.Errorf("%s answered, the session is on %s", got, first)
	}
	if err := c.DrainNode(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	second := first
	await(t, "the session to move", func() bool { second = exchange(t, s, "who?"); return second != first })
	if err := c.UndrainNode(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if !c.KillNode(second) || c.KillNode(second) {
		t.Error("KillNode did not report whether there was such a node")
	}
	await(t, "the session to leave the killed node", func() bool { return s.Node() != second && s.State() == usher.Attached })
	id, err := c.AddNode()
	if err != nil || id != "node-4" {
		t.Errorf("AddNode returned %q, %v", id, err)
	}
}

func await(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !met(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}

// An application without ForNode is shared by all nodes.
func TestSharedApplication(t *testing.T) {
	c := start3(t, named{id: "shared"})
	for i := range 6 {
		if got := exchange(t, connect(t, c, fmt.Sprint("user-", i)), "who?"); got != "shared" {
			t.Errorf("%q answered", got)
		}
	}
}

// The first login that gets an answer at all succeeds: the port answers nothing
// before.
func TestFirstLoginSucceeds(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	cfg := testConfig()
	cfg.Auth = addr
	var wg sync.WaitGroup
	statuses := make(chan string, 1)
	wg.Go(func() {
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			resp, err := http.Post("http://"+addr+"/v1/login", "application/json", strings.NewReader(`{"method":"guest","credentials":{"name":"ada"}}`))
			if err == nil {
				resp.Body.Close()
				statuses <- resp.Status
				return
			}
		}
		statuses <- "no answer"
	})
	c, err := Start(node.Echo{}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if got := <-statuses; got != "200 OK" {
		t.Errorf("the first answer was %s", got)
	}
	c.Close()
}

// Run prints the addresses once the cluster is ready, and ends with its context.
func TestRun(t *testing.T) {
	cfg := testConfig()
	out := &lockedBuffer{}
	cfg.Out = out
	cfg.Pages = []Page{{Name: "page", Path: "/page/", Note: "a note"}}
	cfg.Wrap = func(_ *Cluster, login http.Handler) http.Handler { return login }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, node.Echo{}, cfg) }()
	await(t, "the summary", func() bool { return strings.Contains(out.String(), "Ctrl-C") })
	for _, want := range []string{"login API    http://127.0.0.1:", "private API  http://127.0.0.1:", "/page/   (a note)", "node-3", "ops port"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the summary:\n%s", want, out)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A port in use is reported, and what was started before is stopped.
func TestPortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for flag, change := range map[string]func(*Config){
		"--auth:": func(c *Config) { c.Auth = ln.Addr().String() },
		"--api:":  func(c *Config) { c.API = ln.Addr().String() },
		"--ops:":  func(c *Config) { c.Ops = ln.Addr().String() },
	} {
		cfg := testConfig()
		change(&cfg)
		if c, err := Start(node.Echo{}, cfg); err == nil || !strings.HasPrefix(err.Error(), flag) {
			if c != nil {
				c.Close()
			}
			t.Errorf("%s %v", flag, err)
		}
	}
	cfg := testConfig()
	cfg.Nodes = maxNodes + 1
	if _, err := Start(node.Echo{}, cfg); err == nil {
		t.Error("too many nodes were accepted")
	}
}

// Close may be called again and at the same time. After it no node is added, which
// nothing could stop.
func TestCloseTwice(t *testing.T) {
	c, err := Start(node.Echo{}, testConfig())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(c.Close)
	}
	wg.Wait()
	if id, err := c.AddNode(); err == nil {
		t.Errorf("%s was added to a closed cluster", id)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
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
