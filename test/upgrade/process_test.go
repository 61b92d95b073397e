package upgrade

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// startTimeout is how long a process may take to start on a loaded machine.
const startTimeout = 30 * time.Second

// process is a running role of usher.
type process struct {
	name   string
	ops    string // host:port
	cmd    *exec.Cmd
	output *outputBuffer
	exited chan struct{}
}

// start starts the role with the arguments. It does not wait until it is ready.
func start(b binary, name, ops string, args ...string) (*process, error) {
	p := &process{name: name + " (" + b.name + ")", ops: ops, output: &outputBuffer{}, exited: make(chan struct{})}
	p.cmd = exec.Command(b.path, append(args, "--ops="+ops, "--log-format=json")...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = killedWithParent()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // stop reads the exit code
	}()
	return p, nil
}

// awaitReady waits until /readyz answers 200.
func (p *process) awaitReady() error {
	return p.await("is not ready", func() bool {
		status, _, err := p.get("/readyz")
		return err == nil && status == http.StatusOK
	})
}

// awaitNodes waits until an auth can assign sessions to n nodes.
func (p *process) awaitNodes(n int) error {
	return p.await(fmt.Sprintf("does not know %d nodes", n), func() bool { return p.metric("usher_nodes_eligible") == float64(n) })
}

// await polls until met returns true. The error has the output of the process.
func (p *process) await(failure string, met func() bool) error {
	for deadline := time.Now().Add(startTimeout); !met(); time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.exited:
			return fmt.Errorf("%s has ended with %v, and %s:\n%s", p.name, p.cmd.ProcessState, failure, p.output.tail())
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s %s after %v:\n%s", p.name, failure, startTimeout, p.output.tail())
		}
	}
	return nil
}

// get returns the answer of the ops port.
func (p *process) get(path string) (status int, body []byte, err error) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + p.ops + path)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// metric returns the value of a metric without labels, or -1.
func (p *process) metric(name string) float64 {
	_, body, err := p.get("/metrics")
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(body)) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			if v, err := strconv.ParseFloat(strings.TrimSpace(text), 64); err == nil {
				return v
			}
		}
	}
	return -1
}

// stopTimeout is longer than a node takes to drain at most.
const stopTimeout = 60 * time.Second

// stop sends SIGTERM and waits until the process has ended with 0.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("%s: %w:\n%s", p.name, err, p.output.tail())
	}
	select {
	case <-p.exited:
	case <-time.After(stopTimeout):
		return fmt.Errorf("%s has not ended %v after SIGTERM:\n%s", p.name, stopTimeout, p.output.tail())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with exit code %d:\n%s", p.name, code, p.output.tail())
	}
	return p.output.check(p.name)
}

// kill ends the process at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.exited
}

// outputBuffer keeps the end of the output of a process, and its first line that no
// process may ever print. It is safe for concurrent use.
type outputBuffer struct {
	mu    sync.Mutex
	text  []byte
	fatal error
}

// keepBytes is the number of bytes of output that are kept.
const keepBytes = 32 << 10

func (o *outputBuffer) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for line := range bytes.Lines(b) {
		for _, bad := range []string{"DATA RACE", "panic: ", "fatal error: ", `"msg":"panic"`} {
			if o.fatal == nil && bytes.Contains(line, []byte(bad)) {
				o.fatal = errors.New(string(line))
			}
		}
	}
	o.text = append(o.text, b...)
	if extra := len(o.text) - 2*keepBytes; extra > 0 {
		o.text = append([]byte(nil), o.text[len(o.text)-keepBytes:]...)
	}
	return len(b), nil
}

func (o *outputBuffer) check(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fatal != nil {
		return fmt.Errorf("%s printed: %w", name, o.fatal)
	}
	return nil
}

func (o *outputBuffer) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text[max(0, len(o.text)-4<<10):])
}
