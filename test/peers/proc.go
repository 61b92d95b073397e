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

// proc is a server that was started.
type proc struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

// start starts a server and waits until its address takes connections.
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
			return nil, fmt.Errorf("%s does not listen at %s:\n%s", name, addr, p.out.String())
		}
	}
}

func (p *proc) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(3*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_ = p.cmd.Wait()
}

// ticks per second of the times in /proc, on every Linux there is.
const ticks = 100

// cpu returns the processor time that the process and its children have used.
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

// resident returns the bytes of memory that the process has.
func (p *proc) resident() (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	n, err := strconv.Atoi(f[1])
	return n * os.Getpagesize(), err
}

// freeAddr returns a loopback address that was free a moment ago.
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

// giveBack has the server give back what memory it does not use, twice: what one
// collection finalizes the next one frees.
func (s *server) giveBack(ctx context.Context) error {
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
