// Package redistest runs real Redis servers for tests: a single server that can be
// killed, restarted and paused, a Redis Cluster, and a master with a replica and a
// Sentinel. It needs redis-server in the PATH.
package redistest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a redis-server on a free loopback port, without persistence: its data is
// lost when it stops. A method that does not succeed fails the test. Call the methods
// from the goroutine of the test.
type Server struct {
	t    testing.TB
	dir  string
	port int
	conf []string // the first arguments, if any: a configuration file and the mode
	args []string

	cmd    *exec.Cmd // nil while stopped
	exited chan struct{}
}

// ready is how long a server may take to start. It is long because a loaded machine
// is slow.
const ready = 20 * time.Second

// Start starts a server, waits until it answers, and stops it when the test ends. It
// passes args to redis-server ("--requirepass", "x").
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := prepare(t, args...)
	s.startOnFreePort()
	return s
}

// startOnFreePort starts the server on a free port. If another process takes the port
// first, the server exits at once, and startOnFreePort tries another port.
func (s *Server) startOnFreePort() {
	s.t.Helper()
	var err error
	for range 5 {
		s.port = freePort(s.t)
		if err = s.start(); err == nil {
			return
		}
	}
	s.t.Fatalf("redistest: redis-server does not start: %v\n%s", err, s.log())
}

// prepare returns a server that has no port yet and is not started.
func prepare(t testing.TB, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("redistest: redis-server is not in the PATH. Install it: the package is " +
			"redis-server (Debian, Ubuntu) or redis (Fedora, Alpine, Homebrew); version 6.2 or later")
	}
	s := &Server{t: t, dir: t.TempDir(), args: args}
	t.Cleanup(s.Stop)
	return s
}

// URL returns redis://127.0.0.1:port/0. It stays the same after a Restart.
func (s *Server) URL() string { return "redis://" + s.Addr() + "/0" }

// Addr returns 127.0.0.1:port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Stop kills the server, as kill -9 does, and waits until it has exited.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have exited by itself
	<-s.exited
	s.cmd = nil
}

// Restart starts the server on the same port again. It stops the server first if it is
// running. The data is lost.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	if err := s.start(); err != nil {
		s.t.Fatalf("redistest: restart: %v\n%s", err, s.log())
	}
}

// Pause suspends the server: its connections stay open, and it does not answer.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume continues a paused server.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if s.cmd == nil {
		s.t.Fatalf("redistest: cannot send %v to a stopped server", sig)
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("redistest: %v: %v", sig, err)
	}
}

// start starts the process and waits until it answers PING.
func (s *Server) start() error {
	cmd := exec.Command("redis-server", slices.Concat(s.conf, []string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--logfile", "server.log",
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}, s.args)...)
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // its error only says that the server was killed
	}()
	s.cmd, s.exited = cmd, exited
	for deadline := time.Now().Add(ready); time.Now().Before(deadline); {
		if s.answers() {
			return nil
		}
		select {
		case <-exited:
			s.cmd = nil
			return fmt.Errorf("redis-server exited: %v", cmd.ProcessState)
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.Stop()
	return fmt.Errorf("redis-server did not answer in %v", ready)
}

// answers reports whether this server answers, and not another process that took the
// port first.
func (s *Server) answers() bool {
	return s.says("PONG", "PING") && s.says(fmt.Sprintf("\r\nprocess_id:%d\r\n", s.cmd.Process.Pid), "INFO", "server")
}

// says reports whether the server's reply to the command contains the text.
func (s *Server) says(text string, command ...string) bool {
	reply, err := call(s.Addr(), append(s.auth(), command)...)
	return err == nil && strings.Contains(reply, text)
}

// Do executes an administrative command.
func (s *Server) Do(command ...string) error {
	_, err := call(s.Addr(), append(s.auth(), command)...)
	return err
}

// auth returns the commands that log in to the server.
func (s *Server) auth() [][]string {
	for i, a := range s.args {
		if a == "--requirepass" {
			return [][]string{{"AUTH", s.args[i+1]}}
		}
	}
	return nil
}

func (s *Server) log() []byte {
	text, _ := os.ReadFile(filepath.Join(s.dir, "server.log"))
	return text
}

// freePort returns a port on which no process listens now. It is below 55536, because
// a node of a cluster also uses the port 10000 higher, for the cluster bus.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		if port+10000 < 1<<16 {
			return port
		}
	}
	t.Fatal("redistest: no free port")
	return 0
}
