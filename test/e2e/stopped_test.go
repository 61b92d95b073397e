package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// startRecorder starts a node with the recording application of test/recorder. It
// returns the node's process and the path of the file with a line for each message
// that was delivered to the application.
func startRecorder(t *testing.T, c *cluster, id string) (p *process, lines string) {
	t.Helper()
	dir := t.TempDir()
	bin, lines := filepath.Join(dir, "recorder"), filepath.Join(dir, "lines")
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Dir = filepath.Join("..", "recorder")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building recorder: %v\n%s", err, out)
	}
	p = startProgram(t, id, bin, "-id="+id, "-join="+c.auth.gossip, "-redis="+c.redis.URL(),
		"-jwks="+c.url("/.well-known/jwks.json"), "-out="+lines)
	p.await("run", startTimeout, func() bool {
		line := p.output.startedLine()
		return line != nil && json.Unmarshal(line, &struct{ Gossip *string }{&p.gossip}) == nil
	})
	return p, lines
}

// TestStopped pauses a node with SIGSTOP until its clients have moved, and then
// lets it continue. The messages that the clients had sent it are still in its
// socket buffers; the node must not deliver them.
func TestStopped(t *testing.T) {
	c := startCluster(t, 1)
	stopped, lines := startRecorder(t, c, "node-2")
	c.nodes["node-2"] = stopped
	c.awaitNodes()
	stale := 0
	for round := range pick(1, 5) {
		clients := startEchoClients(t, 40, 20*time.Millisecond, func(name string) usher.Config {
			return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name + "-" + strconv.Itoa(round))}
		})
		awaitEchoes(t, clients, 30*time.Second)
		affected, _ := splitByNode(clients, "node-2")
		if len(affected) == 0 {
			t.Fatal("no client is on node-2, which is to be paused")
		}
		began := time.Now()
		stopped.signal(syscall.SIGSTOP)
		awaitMovedFrom(t, affected, "node-2", began)
		// The clients have closed their old connections; unread data is still in them.
		if round == 1 { // one long pause, as of a suspended machine
			time.Sleep(50 * time.Second)
		}
		resumed := time.Now()
		stopped.signal(syscall.SIGCONT)
		awaitEchoes(t, clients, 30*time.Second)
		time.Sleep(2 * time.Second)
		moved := map[string]bool{}
		for _, ec := range affected {
			moved[ec.session.SessionID()] = true
		}
		stale += deliveredSince(t, lines, resumed, moved)
		t.Logf("paused for %v: %d sessions moved; messages delivered with their old epochs so far: %d",
			resumed.Sub(began).Round(time.Millisecond), len(affected), stale)
		for _, ec := range clients {
			if err := ec.verify(); err != nil {
				t.Error(err)
			}
			ec.close()
		}
		c.awaitNodes()
	}
	if stale > 0 {
		t.Errorf("%d messages were delivered with an old epoch, want 0", stale)
	}
}

// A reconnect that finds its node hanging waits for the probe of it, and then moves the
// session in the same request.
func TestReconnectFromStopped(t *testing.T) {
	c := startCluster(t, 2)
	var there []proto.Assignment
	for i := 0; len(there) < 3; i++ {
		if at := c.mustLogin(fmt.Sprint("guest-", i)); at.Node.ID == "node-2" {
			there = append(there, at)
		}
	}
	c.nodes["node-2"].signal(syscall.SIGSTOP)
	for _, at := range there {
		a := post(t, c.url("/v1/reconnect"), at.Token, `{"unreachable":"node-2"}`)
		if a.status != 200 || a.at.Node.ID != "node-1" {
			t.Errorf("reconnect: %v, want 200 and node-1", a)
		}
		t.Logf("moved after %v", a.took.Round(time.Millisecond))
	}
	c.nodes["node-2"].signal(syscall.SIGCONT)
}

// deliveredSince returns how many messages of the sessions were delivered to the
// application at or after then.
func deliveredSince(t *testing.T, path string, then time.Time, sessions map[string]bool) (n int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := 0
	for lines := bufio.NewScanner(f); lines.Scan(); all++ {
		at, rest, _ := strings.Cut(lines.Text(), " ")
		sid, _, _ := strings.Cut(rest, " ")
		if ns, err := strconv.ParseInt(at, 10, 64); err != nil {
			t.Fatalf("%s has an invalid line %q", path, lines.Text())
		} else if ns >= then.UnixNano() && sessions[sid] {
			n++
		}
	}
	if all == 0 {
		t.Fatalf("%s is empty: no message was delivered to the application", path)
	}
	return n
}

// signal sends a signal to the process.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}
