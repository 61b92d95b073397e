package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

// target is another process, which runs one node.
type target struct {
	cmd  *exec.Cmd
	http *http.Client
	dial *http.Client // for WebSockets
	keys *token.KeySet
	dir  string       // of the file of public keys
	url  string       // of the node
	ops  string       // base URL of the ops port
	out  bytes.Buffer // output of the process
}

func startTarget(ctx context.Context, sessions int, secure bool) (_ *target, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addrs, err := freeAddrs(2)
	if err != nil {
		return nil, err
	}
	t := &target{
		url: "ws://" + addrs[0] + proto.ConnectPath, ops: "http://" + addrs[1],
		http: &http.Client{Timeout: 10 * time.Second},
	}
	if t.keys, err = token.NewKeySet(); err != nil {
		return nil, err
	}
	if t.dir, err = os.MkdirTemp("", "usher-bench-"); err != nil {
		return nil, err
	}
	jwks := filepath.Join(t.dir, "jwks.json")
	args := []string{
		"node", fmt.Sprintf("--max-sessions=%d", sessions),
		"--listen=" + addrs[0], "--ops=" + addrs[1], "--jwks=" + jwks, "--log-level=warn",
	}
	dial := http.DefaultTransport.(*http.Transport).Clone()
	if secure {
		t.url = "wss" + strings.TrimPrefix(t.url, "ws")
		cert, key, roots, err := selfSigned(t.dir)
		if err != nil {
			os.RemoveAll(t.dir)
			return nil, err
		}
		args = append(args, "--tls-cert="+cert, "--tls-key="+key)
		dial.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	t.dial = &http.Client{Transport: dial}
	t.cmd = exec.Command(self, args...)
	t.cmd.Stdout, t.cmd.Stderr = &t.out, &t.out
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C ends this process only, and this process ends the target
	if err = os.WriteFile(jwks, t.keys.JWKS(), 0o600); err == nil {
		err = t.cmd.Start()
	}
	if err != nil {
		os.RemoveAll(t.dir)
		return nil, err
	}
	if err := t.awaitReady(ctx); err != nil {
		t.stop()
		return nil, fmt.Errorf("the process of the node did not start: %w\n%s", err, t.out.String())
	}
	return t, nil
}

func (t *target) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		err := t.get(ctx, http.MethodGet, t.ops+"/readyz", func(io.Reader) error { return nil })
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stop ends the process.
func (t *target) stop() {
	t.http.CloseIdleConnections()
	_ = t.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(10*time.Second, func() { _ = t.cmd.Process.Kill() })
	defer kill.Stop()
	_ = t.cmd.Wait()
	_ = os.RemoveAll(t.dir)
}

// connect attaches a client of a new session.
func (t *target) connect(ctx context.Context, name string) (*websocket.Conn, error) {
	now := time.Now()
	tok, err := t.keys.Sign(proto.Claims{
		Issuer: "bench", Audience: proto.TokenAudience, User: benchUser, Session: session.NewID(benchUser), Node: benchNode, Epoch: 1,
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(time.Hour).Unix(), ID: name,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, t.url, &websocket.DialOptions{
		HTTPClient:   t.dial,
		HTTPHeader:   http.Header{"Authorization": {"Bearer " + tok}},
		Subprotocols: []string{proto.Subprotocol}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	if _, _, err := ws.Read(ctx); err != nil { // the welcome
		_ = ws.CloseNow()
		return nil, fmt.Errorf("attach: %w", err)
	}
	return ws, nil
}

// usage is what a process uses: bytes, goroutines and sessions.
type usage struct {
	resident, heap, stack, goroutines, sessions float64
}

// usage measures the process, after it has returned unused memory to the system.
func (t *target) usage(ctx context.Context) (usage, error) {
	t.http.CloseIdleConnections() // their memory in the process must not be measured
	nothing := func(io.Reader) error { return nil }
	for range 2 { // the second collection frees what the first one finalizes
		if err := t.get(ctx, http.MethodPost, t.ops+"/debug/free", nothing); err != nil {
			return usage{}, err
		}
	}
	var u usage
	err := t.get(ctx, http.MethodGet, t.ops+"/metrics", func(r io.Reader) error {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			u.note(lines.Text())
		}
		return lines.Err()
	})
	if err == nil && (u.resident == 0 || u.heap == 0) {
		err = errors.New("this system does not report the resident memory of a process")
	}
	return u, err
}

func (u *usage) note(line string) {
	name, value, _ := strings.Cut(line, " ")
	into := map[string]*float64{
		"process_resident_memory_bytes":         &u.resident,
		"go_memstats_heap_alloc_bytes":          &u.heap,
		"go_memstats_stack_inuse_bytes":         &u.stack,
		"go_goroutines":                         &u.goroutines,
		`usher_node_sessions{state="attached"}`: &u.sessions,
	}[name]
	if into != nil {
		_, _ = fmt.Sscan(value, into)
	}
}

func (t *target) get(ctx context.Context, method, url string, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	resp, err := t.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("%s: %s: %s", url, resp.Status, text)
	}
	if err := read(resp.Body); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// freeAddrs returns loopback addresses that are free at this moment.
func freeAddrs(n int) ([]string, error) {
	var addrs []string
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		addrs = append(addrs, ln.Addr().String())
	}
	return addrs, nil
}
