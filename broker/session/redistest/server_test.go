package redistest_test

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session/redistest"
)

func TestServer(t *testing.T) {
	s := redistest.Start(t)
	if want := "redis://" + s.Addr() + "/0"; s.URL() != want {
		t.Errorf("URL %q, want %q", s.URL(), want)
	}
	if got := ask(t, s.Addr(), "SET k v", 5*time.Second); got != "+OK" {
		t.Fatalf("SET: %q", got)
	}
	addr := s.Addr()

	s.Stop()
	s.Stop() // no effect
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("a stopped server accepts connections")
	}

	s.Restart()
	if s.Addr() != addr {
		t.Errorf("restarted at %s, was at %s", s.Addr(), addr)
	}
	if got := ask(t, addr, "GET k", 5*time.Second); got != "$-1" {
		t.Errorf("after a restart the key is %q", got)
	}

	s.Pause()
	if got := ask(t, addr, "PING", 100*time.Millisecond); got != "" {
		t.Errorf("a paused server answers %q", got)
	}
	s.Resume()
	if got := ask(t, addr, "PING", 5*time.Second); got != "+PONG" {
		t.Errorf("a resumed server answers %q", got)
	}
}

func TestPassword(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "secret")
	if got := ask(t, s.Addr(), "PING", 5*time.Second); !strings.HasPrefix(got, "-NOAUTH") {
		t.Errorf("without the password: %q", got)
	}
}

func TestCluster(t *testing.T) {
	c := redistest.StartCluster(t)
	if !strings.HasPrefix(c.URL(), "redis-cluster://127.0.0.1:") || strings.Count(c.URL(), ",") != 2 {
		t.Errorf("URL %q", c.URL())
	}
	moved := 0
	for _, s := range c.Servers {
		switch got := ask(t, s.Addr(), "SET k v", 5*time.Second); {
		case strings.HasPrefix(got, "-MOVED "):
			moved++
		case got != "+OK":
			t.Errorf("SET: %q", got)
		}
	}
	if moved != 2 {
		t.Errorf("%d of 3 masters redirected the key, want 2", moved)
	}
}

// ask returns the first line of the answer, or "" if there is none within timeout.
func ask(t *testing.T, addr, command string, timeout time.Duration) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(command + "\r\n")); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(c).ReadString('\n')
	return strings.TrimRight(line, "\r\n")
}
