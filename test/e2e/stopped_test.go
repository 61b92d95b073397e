package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// startWitness starts a node whose application writes down what it is given.
func startWitness(t *testing.T, c *cluster, id string) (p *process, lines string) {
	t.Helper()
	dir := t.TempDir()
	bin, lines := filepath.Join(dir, "witness"), filepath.Join(dir, "lines")
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Dir = filepath.Join("..", "witness")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building witness: %v\n%s", err, out)
	}
	p = startProgram(t, id, bin, "-id="+id, "-join="+c.auth.gossip, "-redis="+c.redis.URL(),
		"-jwks="+c.url("/.well-known/jwks.json"), "-out="+lines)
	p.await("run", starts, func() bool {
		line := p.said.runs()
		return line != nil && json.Unmarshal(line, &struct{ Gossip *string }{&p.gossip}) == nil
	})
	return p, lines
}

// TestStopped stops a node, as SIGSTOP does, long enough for its clients to go
// elsewhere, and lets it go on: what they had sent it meanwhile waits in its
// sockets, and it delivers none of that.
func TestStopped(t *testing.T) {
	c := startCluster(t, 1)
	stopped, lines := startWitness(t, c, "node-2")
	c.nodes["node-2"] = stopped
	c.awaitNodes()
	stale := 0
	for round := range pick(1, 5) {
		list := talkers(t, 40, 20*time.Millisecond, func(name string) usher.Config {
			return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name + "-" + strconv.Itoa(round))}
		})
		awaitEchoes(t, list, 30*time.Second)
		hit, _ := divide(list, "node-2")
		if len(hit) == 0 {
			t.Fatal("no client is on the node that stops")
		}
		began := time.Now()
		stopped.signal(syscall.SIGSTOP)
		awaitElsewhere(t, hit, "node-2", began)
		// The clients' old connections are closed, and what they sent waits there.
		if round == 1 { // once as long as a machine may be away
			time.Sleep(50 * time.Second)
		}
		goes := time.Now()
		stopped.signal(syscall.SIGCONT)
		awaitEchoes(t, list, 30*time.Second)
		time.Sleep(2 * time.Second)
		moved := map[string]bool{}
		for _, tk := range hit {
			moved[tk.session.SessionID()] = true
		}
		stale += deliveredSince(t, lines, goes, moved)
		t.Logf("stopped for %v: %d sessions went elsewhere; delivered under their old epochs since: %d",
			goes.Sub(began).Round(time.Millisecond), len(hit), stale)
		for _, tk := range list {
			if err := tk.fault(); err != nil {
				t.Error(err)
			}
			tk.close()
		}
		c.awaitNodes()
	}
	if stale > 0 {
		t.Errorf("%d messages were delivered under a fenced epoch", stale)
	}
}

// deliveredSince counts what the application of the node was given of the
// sessions since then.
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
			t.Fatalf("line %q", lines.Text())
		} else if ns >= then.UnixNano() && sessions[sid] {
			n++
		}
	}
	if all == 0 {
		t.Fatal("the application was given nothing at all")
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
