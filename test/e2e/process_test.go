package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a running program, mostly a role of usher. It is killed when the test
// ends, and its last output is logged if the test failed.
type process struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	output *outputBuffer
	exited chan struct{}

	// Addresses of the role, from its log line "… runs".
	listen, ops, gossip, url string
}

// startTimeout is how long a process may take to start on a loaded machine. Tests
// also use it for other waits without a bound of their own.
const startTimeout = 30 * time.Second

// start starts usher with the arguments and does not wait until it is ready. Its
// ports are chosen by the system, and known only once it logs "… runs".
func start(t testing.TB, name string, args ...string) *process {
	t.Helper()
	return startProgram(t, name, usherBin, args...)
}

// startProgram starts another program in the same way.
func startProgram(t testing.TB, name, bin string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, output: &outputBuffer{}, exited: make(chan struct{})}
	p.cmd = exec.Command(bin, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = killedWithParent()
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // waitExit returns the exit code
	}()
	t.Cleanup(func() {
		p.kill()
		if line := p.output.firstFatal(); line != "" {
			t.Errorf("%s printed: %s", name, line)
		}
		if t.Failed() {
			t.Logf("--- last output of %s:\n%s", name, p.output.tail())
		}
	})
	return p
}

// startRole starts a role of usher that logs JSON, and returns when it is ready.
func startRole(t testing.TB, name string, args ...string) *process {
	t.Helper()
	p := start(t, name, append(args, "--log-format=json", "--ops=127.0.0.1:0")...)
	p.awaitStarted()
	return p
}

// awaitStarted reads the addresses from the log line "… runs" and returns when the
// role is ready.
func (p *process) awaitStarted() {
	p.t.Helper()
	p.awaitRunning()
	p.await("be ready", startTimeout, p.ready)
}

// awaitRunning reads the addresses from the log line "… runs". The role need not be
// ready then.
func (p *process) awaitRunning() {
	p.t.Helper()
	p.await("run", startTimeout, func() bool {
		var at struct{ Listen, Ops, Gossip, URL string }
		line := p.output.startedLine()
		if line == nil || json.Unmarshal(line, &at) != nil {
			return false
		}
		p.listen, p.ops, p.gossip, p.url = at.Listen, "http://"+at.Ops, at.Gossip, at.URL
		return true
	})
}

// ready reports whether /readyz of the ops port answers 200.
func (p *process) ready() bool {
	resp, err := web.Get(p.ops + "/readyz")
	if err != nil {
		return false
	}
	defer drain(resp)
	return resp.StatusCode == http.StatusOK
}

// await waits until met returns true. It fails the test if the process ends before
// that, or the time runs out.
func (p *process) await(what string, within time.Duration, met func() bool) {
	p.t.Helper()
	await(p.t, p.name+" to "+what, within, func() bool {
		select {
		case <-p.exited:
			p.t.Fatalf("%s ended (%v) before it could %s", p.name, p.cmd.ProcessState, what)
		default:
		}
		return met()
	})
}

// kill sends SIGKILL and returns when the process has ended.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.exited
}

// terminate sends SIGTERM.
func (p *process) terminate() {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Errorf("%s: %v", p.name, err)
	}
}

// waitExit waits until the process ends by itself and returns its exit code.
func (p *process) waitExit(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("%s has not ended after %v", p.name, within)
	}
	return p.cmd.ProcessState.ExitCode()
}

// await polls every 10 ms until met returns true, and fails the test if the time
// runs out.
func await(t testing.TB, what string, within time.Duration, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !met(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", within, what)
		}
	}
}

// outputBuffer keeps the end of the output of a process, its log line "… runs",
// and the first line that contains one of fatalPatterns.
type outputBuffer struct {
	mu        sync.Mutex
	text      []byte
	from      int    // index of the unfinished line in text
	started   []byte // the line with the message "… runs"
	fatalLine string
}

// fatalPatterns are texts that no process may ever print.
var fatalPatterns = []string{"DATA RACE", "panic: ", "fatal error: ", "panicked", `"msg":"panic"`}

// keepBytes is the number of bytes of output that are kept at least.
const keepBytes = 64 << 10

func (s *outputBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, b...)
	for {
		i := bytes.IndexByte(s.text[s.from:], '\n')
		if i < 0 {
			break
		}
		line := s.text[s.from : s.from+i]
		if s.started == nil && bytes.Contains(line, []byte(` runs","`)) {
			s.started = bytes.Clone(line)
		}
		if s.fatalLine == "" && slices.ContainsFunc(fatalPatterns, func(a string) bool { return bytes.Contains(line, []byte(a)) }) {
			s.fatalLine = string(line)
		}
		s.from += i + 1
	}
	if extra := min(len(s.text)-keepBytes, s.from); extra > keepBytes {
		s.text = append([]byte(nil), s.text[extra:]...)
		s.from -= extra
	}
	return len(b), nil
}

func (s *outputBuffer) startedLine() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}

func (s *outputBuffer) firstFatal() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fatalLine
}

func (s *outputBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}

func (s *outputBuffer) tail() string {
	lines := strings.Split(s.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}
