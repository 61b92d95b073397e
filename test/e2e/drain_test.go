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

// startBroker starts a broker, which serves the private API of the cluster.
func (c *cluster) startBroker(flags ...string) *process {
	c.t.Helper()
	return startRole(c.t, "broker", append([]string{
		"broker", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--join=" + c.auth.gossip, "--redis=" + c.redis.URL(),
	}, flags...)...)
}

// node returns what the private API reports of a node, and whether it knows it.
func (p *process) node(id string) (n struct {
	State string
	Live  int
	Drain *proto.Drain
}, there bool,
) {
	p.t.Helper()
	return n, get(p.t, "http://"+p.listen+"/v1/nodes/"+id, &n) == http.StatusOK
}

// awaitEligible waits until the private API lists exactly this many eligible
// nodes.
func (p *process) awaitEligible(nodes int) {
	p.t.Helper()
	p.await("list the nodes as eligible", startTimeout, func() bool {
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

// TestDrain drains a node with "usher drain", undoes that halfway, and then drains
// it to the end. One of its clients ignores the goaway and is cut at the deadline.
func TestDrain(t *testing.T) {
	c := startCluster(t, 2)
	api := c.startBroker()
	api.awaitEligible(2)
	clients := startEchoClients(t, 60, 100*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, clients, 30*time.Second)
	affected, _ := splitByNode(clients, "node-1")

	// A drain that is undone halfway.
	usherCommand(t, 0, "drain", "node-1", "--window=6s", "--no-wait", "--api=http://"+api.listen)
	await(t, "the first sessions to leave", 10*time.Second, func() bool {
		n, _ := api.node("node-1")
		return n.Drain != nil && n.Drain.Total == uint32(len(affected)) && n.Drain.Remaining < n.Drain.Total
	})
	if a := c.mustLogin("late"); a.Node.ID != "node-2" {
		t.Errorf("a login was assigned to %s, which drains", a.Node.ID)
	}
	usherCommand(t, 0, "drain", "node-1", "--undo", "--api=http://"+api.listen)
	await(t, "the node to be ready again", 5*time.Second, func() bool {
		n, _ := api.node("node-1")
		return n.State == "ready" && n.Drain == nil
	})
	await(t, "a login to be assigned to the node", 10*time.Second, func() bool { return c.mustLogin("again").Node.ID == "node-1" })

	// A drain to the end. A client that ignores the goaway is cut at the deadline.
	ignoring := c.mustLogin("ignoring")
	for i := 0; ignoring.Node.ID != "node-1"; i++ {
		ignoring = c.mustLogin(fmt.Sprint("ignoring-", i))
	}
	ws, welcome := attach(t, ignoring, "")
	events := make(chan string)
	go func() { events <- readGoAwayAndClose(ws) }()
	began := time.Now()
	out := usherCommand(t, 0, "drain", "node-1", "--window=1s", "--timeout=12s", "--api=http://"+api.listen)
	if !strings.Contains(out, ", 0 remaining, 1 cut at the deadline; the node has left after ") {
		t.Errorf("usher drain printed:\n%s", out)
	}
	if code := c.nodes["node-1"].waitExit(20 * time.Second); code != 0 {
		t.Errorf("the node ended with exit code %d", code)
	}
	t.Logf("usher drain returned after %v and printed:\n%s", time.Since(began).Round(time.Millisecond), out)
	if got := <-events; got != `goaway drain, then 4200 going_away` {
		t.Errorf("the client that ignores the goaway received: %s", got)
	}
	again := c.reconnect(ignoring)
	if _, w := attach(t, again, "?received=0&stream="+welcome.Stream); !w.Resumed || again.Node.ID != "node-2" {
		t.Errorf("that client attached to %s: %+v, want node-2 and a resumed stream", again.Node.ID, w)
	}
	awaitEchoes(t, clients, 30*time.Second)
	checkNoLoss(t, clients)
	usherCommand(t, 1, "drain", "node-1", "--api=http://"+api.listen)
}

// readGoAwayAndClose reads until the connection is closed and returns the goaway
// reasons and the close code as text.
func readGoAwayAndClose(ws *websocket.Conn) string {
	events := ""
	for {
		typ, b, err := ws.Read(context.Background())
		if err != nil {
			code := websocket.CloseStatus(err)
			return fmt.Sprintf("%s, then %d %s", events, code, proto.CloseCode(code))
		}
		if typ == websocket.MessageText {
			if ctl, err := proto.ParseControl(b); err == nil && ctl.Type == proto.TypeGoAway {
				events += "goaway " + ctl.GoAway.Reason
			}
		}
	}
}

// reconnect calls /v1/reconnect and returns the new assignment.
func (c *cluster) reconnect(at proto.Assignment) proto.Assignment {
	c.t.Helper()
	a := post(c.t, c.url("/v1/reconnect"), at.Token, "{}")
	if a.status != 200 {
		c.t.Fatalf("reconnect: %v", a)
	}
	return a.at
}

// usherCommand runs the binary and returns its output, stdout and stderr together.
// The test fails if the exit code is not code.
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

// TestDrainOpsPort drains a node by its ops port, as the preStop hook of a
// container does: without the private API and its keys.
func TestDrainOpsPort(t *testing.T) {
	c := startCluster(t, 2)
	clients := startEchoClients(t, 20, 50*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, clients, startTimeout)
	affected, _ := splitByNode(clients, "node-1")
	asked := time.Now()
	out := usherCommand(t, 0, "drain", "--ops="+strings.TrimPrefix(c.nodes["node-1"].ops, "http://"))
	if !strings.Contains(out, " sessions, 0 remaining, 0 cut at the deadline; the node is empty after ") {
		t.Errorf("usher drain printed %q", out)
	}
	awaitMovedFrom(t, affected, "node-1", asked)
	if code := c.nodes["node-1"].waitExit(startTimeout); code != 0 {
		t.Errorf("the node ended with exit code %d", code)
	}
	awaitEchoes(t, clients, startTimeout)
	checkNoLoss(t, clients)
	usherCommand(t, 2, "drain")
	usherCommand(t, 1, "drain", "--ops=127.0.0.1:1")
}
