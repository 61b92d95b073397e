package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// proc is a running server process.
type proc struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

// start starts a server and waits until its address accepts connections.
func start(addr string, env []string, name string, args ...string) (*proc, error) {
	p := &proc{cmd: exec.Command(name, args...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return p, nil
		}
		if time.Now().After(deadline) {
			p.stop()
			return nil, fmt.Errorf("%s does not listen on %s after 20 s:\n%s", name, addr, p.out.String())
		}
	}
}

func (p *proc) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(3*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_ = p.cmd.Wait()
}

// ticks is the number of ticks per second in the times of /proc, the same on every Linux.
const ticks = 100

// cpu returns the processor time of the process and its children so far.
func (p *proc) cpu() time.Duration {
	pids := append([]int{p.cmd.Process.Pid}, children(p.cmd.Process.Pid)...)
	var sum time.Duration
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
		for _, i := range []int{11, 12} { // utime, stime
			n, _ := strconv.Atoi(f[i])
			sum += time.Duration(n) * time.Second / ticks
		}
	}
	return sum
}

func children(pid int) []int {
	var list []int
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range files {
		b, _ := os.ReadFile(file)
		for _, f := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				list = append(list, n)
			}
		}
	}
	return list
}

// resident returns the resident memory of the process, in bytes.
func (p *proc) resident() (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	n, err := strconv.Atoi(f[1])
	return n * os.Getpagesize(), err
}

// freeAddr returns a loopback address with a port that is free at the time of the call.
func freeAddr() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func port(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// freeMemory makes the server return unused memory to the system. It does so twice,
// because the second garbage collection frees what the first one finalizes.
func (s *server) freeMemory(ctx context.Context) error {
	for range 2 {
		if s.free == "" {
			if err := s.procs[0].cmd.Process.Signal(syscall.SIGHUP); err != nil {
				return err
			}
			time.Sleep(500 * time.Millisecond)
			continue
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.free, nil)
		if err != nil {
			return err
		}
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("%s: %s", s.free, resp.Status)
		}
	}
	return nil
}
