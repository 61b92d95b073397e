package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// startBroker starts the private API beside the cluster.
func (c *cluster) startBroker(flags ...string) *process {
	c.t.Helper()
	return startRole(c.t, "broker", append([]string{
		"broker", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--join=" + c.auth.gossip, "--redis=" + c.redis.URL(),
	}, flags...)...)
}

// node is what the private API says of a node.
func (p *process) node(id string) (n struct {
	State string
	Live  int
	Drain *proto.Drain
}, there bool,
) {
	p.t.Helper()
	return n, get(p.t, "http://"+p.listen+"/v1/nodes/"+id, &n) == http.StatusOK
}

// knows waits until the API has heard of so many nodes.
func (p *process) knows(nodes int) {
	p.t.Helper()
	p.await("know the nodes", starts, func() bool {
		var list struct{ Nodes []struct{ Eligible bool } }
		get(p.t, "http://"+p.listen+"/v1/nodes", &list)
		n := 0
		for _, one := range list.Nodes {
			if one.Eligible {
				n++
			}
		}
		return n == nodes
	})
}

// TestDrain drains a node by the command, under clients of which one does not do
// what it is asked, watches it, takes it back, and drains it again to the end.
func TestDrain(t *testing.T) {
	c := startCluster(t, 2)
	api := c.startBroker()
	api.knows(2)
	list := talkers(t, 60, 100*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, list, 30*time.Second)
	hit, _ := divide(list, "node-1")

	// Taken back when it is half-way.
	usherCommand(t, 0, "drain", "node-1", "--window=6s", "--no-wait", "--api=http://"+api.listen)
	await(t, "the drain to get going", 10*time.Second, func() bool {
		n, _ := api.node("node-1")
		return n.Drain != nil && n.Drain.Total == uint32(len(hit)) && n.Drain.Remaining < n.Drain.Total
	})
	if a := c.enter("late"); a.Node.ID != "node-2" {
		t.Errorf("a login was sent to %s, which drains", a.Node.ID)
	}
	usherCommand(t, 0, "drain", "node-1", "--undo", "--api=http://"+api.listen)
	await(t, "the node to be ready again", 5*time.Second, func() bool {
		n, _ := api.node("node-1")
		return n.State == "ready" && n.Drain == nil
	})
	await(t, "a login there", 10*time.Second, func() bool { return c.enter("again").Node.ID == "node-1" })

	// To the end. A client that takes no notice is cut at the deadline.
	deaf := c.enter("deaf")
	for i := 0; deaf.Node.ID != "node-1"; i++ {
		deaf = c.enter(fmt.Sprint("deaf-", i))
	}
	ws, welcome := attach(t, deaf, "")
	said := make(chan string)
	go func() { said <- lastWords(ws) }()
	began := time.Now()
	out := usherCommand(t, 0, "drain", "node-1", "--window=1s", "--timeout=12s", "--api=http://"+api.listen)
	if !strings.Contains(out, "has left") || !strings.Contains(out, "1 cut at the deadline") {
		t.Errorf("the command said:\n%s", out)
	}
	if code := c.nodes["node-1"].ends(20 * time.Second); code != 0 {
		t.Errorf("the node ended with exit code %d", code)
	}
	t.Logf("the command watched for %v and said:\n%s", time.Since(began).Round(time.Millisecond), out)
	if got := <-said; got != `goaway drain, then 4200 going_away` {
		t.Errorf("the client that takes no notice was told: %s", got)
	}
	again := c.reconnect(deaf)
	if _, w := attach(t, again, "?received=0&stream="+welcome.Stream); !w.Resumed || again.Node.ID != "node-2" {
		t.Errorf("it came back to %s: %+v", again.Node.ID, w)
	}
	awaitEchoes(t, list, 30*time.Second)
	unharmed(t, list)
	usherCommand(t, 1, "drain", "node-1", "--api=http://"+api.listen)
}

// lastWords reads to the end of a connection and returns the goaway and the
// close.
func lastWords(ws *websocket.Conn) string {
	words := ""
	for {
		typ, b, err := ws.Read(context.Background())
		if err != nil {
			code := websocket.CloseStatus(err)
			return fmt.Sprintf("%s, then %d %s", words, code, proto.CloseCode(code))
		}
		if typ == websocket.MessageText {
			if ctl, err := proto.ParseControl(b); err == nil && ctl.Type == proto.TypeGoAway {
				words += "goaway " + ctl.GoAway.Reason
			}
		}
	}
}

// reconnect asks where the session is now.
func (c *cluster) reconnect(at proto.Assignment) proto.Assignment {
	c.t.Helper()
	a := post(c.t, c.url("/v1/reconnect"), at.Token, "{}")
	if a.status != 200 {
		c.t.Fatalf("reconnect: %v", a)
	}
	return a.at
}

// usherCommand runs the binary and returns what it said.
func usherCommand(t testing.TB, code int, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, usherBin, args...)
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("usher %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
	}
	return string(out)
}

// TestDrainHere drains a node by its ops door, as a hook before the stop of a
// container does: without the private API and its keys.
func TestDrainHere(t *testing.T) {
	c := startCluster(t, 2)
	list := talkers(t, 20, 50*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, list, starts)
	hit, _ := divide(list, "node-1")
	asked := time.Now()
	out := usherCommand(t, 0, "drain", "--ops="+strings.TrimPrefix(c.nodes["node-1"].ops, "http://"))
	if !strings.Contains(out, "Empty after ") {
		t.Errorf("it says %q", out)
	}
	awaitElsewhere(t, hit, "node-1", asked)
	if code := c.nodes["node-1"].ends(starts); code != 0 {
		t.Errorf("the node ended with %d", code)
	}
	awaitEchoes(t, list, starts)
	unharmed(t, list)
	usherCommand(t, 2, "drain")
	usherCommand(t, 1, "drain", "--ops=127.0.0.1:1")
}
