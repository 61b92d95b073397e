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

// process is a running usher. It is killed when the test ends, and what it
// said is shown if the test failed.
type process struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	said   *said
	exited chan struct{}

	// Where it is, as it says once it runs.
	listen, ops, gossip, url string
}

// starts is how long a process may take to start on a loaded machine.
const starts = 30 * time.Second

// start starts usher with the arguments. Ports are the system's choice, so
// nothing is known of the process before it says that it runs.
func start(t testing.TB, name string, args ...string) *process {
	t.Helper()
	return startProgram(t, name, usherBin, args...)
}

// startProgram starts another program in the same way.
func startProgram(t testing.TB, name, bin string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, said: &said{}, exited: make(chan struct{})}
	p.cmd = exec.Command(bin, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	p.cmd.SysProcAttr = diesWithTest()
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // its code is looked at where it matters
	}()
	t.Cleanup(func() {
		p.kill()
		if line := p.said.alarm(); line != "" {
			t.Errorf("%s said: %s", name, line)
		}
		if t.Failed() {
			t.Logf("--- %s said last:\n%s", name, p.said.tail())
		}
	})
	return p
}

// startRole starts a role that logs JSON, and returns when it is ready.
func startRole(t testing.TB, name string, args ...string) *process {
	t.Helper()
	p := start(t, name, append(args, "--log-format=json", "--ops=127.0.0.1:0")...)
	p.awaitRuns()
	return p
}

// awaitRuns returns when the role has said that it runs, and is ready.
func (p *process) awaitRuns() {
	p.t.Helper()
	p.await("run", starts, func() bool {
		var at struct{ Listen, Ops, Gossip, URL string }
		line := p.said.runs()
		if line == nil || json.Unmarshal(line, &at) != nil {
			return false
		}
		p.listen, p.ops, p.gossip, p.url = at.Listen, "http://"+at.Ops, at.Gossip, at.URL
		return true
	})
	p.await("be ready", starts, p.ready)
}

// ready asks the ops door.
func (p *process) ready() bool {
	resp, err := web.Get(p.ops + "/readyz")
	if err != nil {
		return false
	}
	defer drain(resp)
	return resp.StatusCode == http.StatusOK
}

// await fails the test when the process ends, or the condition is not met in
// time.
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

// kill ends the process as kill -9 does, and returns when it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.exited
}

// terminate asks the process to end.
func (p *process) terminate() {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Errorf("%s: %v", p.name, err)
	}
}

// ends waits for the process to end by itself and returns its exit code.
func (p *process) ends(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("%s has not ended after %v", p.name, within)
	}
	return p.cmd.ProcessState.ExitCode()
}

// await polls until the condition is met.
func await(t testing.TB, what string, within time.Duration, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !met(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", within, what)
		}
	}
}

// said keeps the end of what a process says, the line in which it says that it
// runs, and the first that no process may ever say.
type said struct {
	mu      sync.Mutex
	text    []byte
	from    int    // where the unfinished line begins
	line    []byte // «… runs»
	alarmed string
}

// alarms are in the lines that no process may ever say.
var alarms = []string{"DATA RACE", "panic: ", "fatal error: ", "panicked", `"msg":"panic"`}

// keeps bounds what is kept.
const keeps = 64 << 10

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, b...)
	for {
		i := bytes.IndexByte(s.text[s.from:], '\n')
		if i < 0 {
			break
		}
		line := s.text[s.from : s.from+i]
		if s.line == nil && bytes.Contains(line, []byte(` runs","`)) {
			s.line = bytes.Clone(line)
		}
		if s.alarmed == "" && slices.ContainsFunc(alarms, func(a string) bool { return bytes.Contains(line, []byte(a)) }) {
			s.alarmed = string(line)
		}
		s.from += i + 1
	}
	if extra := min(len(s.text)-keeps, s.from); extra > keeps {
		s.text = append([]byte(nil), s.text[extra:]...)
		s.from -= extra
	}
	return len(b), nil
}

func (s *said) runs() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.line
}

func (s *said) alarm() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alarmed
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}

func (s *said) tail() string {
	lines := strings.Split(s.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}
