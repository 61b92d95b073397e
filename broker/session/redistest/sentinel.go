package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Sentinel is a master, a replica, and one Redis Sentinel that monitors them. It
// promotes the replica half a second after the master stopped answering.
type Sentinel struct {
	Master, Replica *Server

	sentinel *Server
}

// StartSentinel starts all three, waits until the replica can be promoted, and stops
// them when the test ends.
func StartSentinel(t testing.TB) *Sentinel {
	t.Helper()
	s := &Sentinel{Master: Start(t, "--repl-diskless-sync-delay", "0")}
	s.Replica = Start(t, "--replicaof", "127.0.0.1 "+fmt.Sprint(s.Master.port))
	s.sentinel = prepare(t)
	conf := filepath.Join(s.sentinel.dir, "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor main 127.0.0.1 %d 1\n"+
		"sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n", s.Master.port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.sentinel.conf = []string{conf, "--sentinel"}
	s.sentinel.startOnFreePort()
	s.await("the replica is not in sync", s.Replica, "master_link_status:up", "INFO", "replication")
	s.await("the sentinel does not know the replica", s.sentinel, "slaves=1", "INFO", "sentinel")
	return s
}

// URL returns redis-sentinel://127.0.0.1:port/0?master=main
func (s *Sentinel) URL() string { return "redis-sentinel://" + s.sentinel.Addr() + "/0?master=main" }

// await waits until the server's reply to the command contains the text.
func (s *Sentinel) await(what string, server *Server, text string, command ...string) {
	server.t.Helper()
	for deadline := time.Now().Add(ready); !server.says(text, command...); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			server.t.Fatalf("redistest: %s after %v\n%s", what, ready, server.log())
		}
	}
}
