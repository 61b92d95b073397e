package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// TestKill kills one node of three with SIGKILL while 300 clients exchange
// messages. Its clients must be back on other nodes within 10 s (99 %), with one
// reset; the other clients must not be disturbed; and no login may be assigned to
// the dead node.
func TestKill(t *testing.T) {
	c := startCluster(t, 3)
	clients := startEchoClients(t, 300, 250*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, clients, 30*time.Second)

	const dead = "node-2"
	affected, unaffected := splitByNode(clients, dead)
	if len(affected) < 50 {
		t.Fatalf("only %d of 300 clients are on %s, want at least 50", len(affected), dead)
	}
	before := c.auth.metrics()
	killed := time.Now()
	c.nodes[dead].kill()

	waits := awaitMovedFrom(t, affected, dead, killed)
	at := func(share float64) time.Duration { return waits[int(share*float64(len(waits)-1))] }
	t.Logf("%d clients of the dead node were attached again after: 50%% %v, 90%% %v, 99%% %v, all %v",
		len(waits), at(.5), at(.9), at(.99), at(1))
	if late := at(.99); late > 10*time.Second {
		t.Errorf("99%% of the clients were attached again after %v, want at most 10 s", late)
	}

	checkNoLogins(t, c, dead, killed)

	awaitEchoes(t, clients, 30*time.Second)
	for _, ec := range affected {
		if _, resets, _ := ec.view(); !slices.Equal(resets, []string{proto.ResetNodeLost}) {
			t.Errorf("%s was notified of the resets %q, want one %s", ec.session.SessionID(), resets, proto.ResetNodeLost)
		}
	}
	for _, ec := range unaffected {
		if states, resets, _ := ec.view(); len(states) != 1 || len(resets) != 0 {
			t.Errorf("%s, on another node, was disturbed: %v, resets %q", ec.session.SessionID(), states, resets)
		}
	}
	const moved = `usher_reassignments_total{reason="unreachable",result="ok"}`
	if n := c.auth.metrics()[moved] - before[moved]; int(n) < len(affected)*9/10 {
		t.Errorf("/v1/reconnect moved %v of %d sessions with the reason unreachable, want at least 90 %%", n, len(affected))
	}
}

// checkNoLogins checks for 10 s after the kill that no login is assigned to the
// dead node: neither while auth knows of the failure only from client failure
// reports and its own probe, nor when the node's last report has become old, nor
// after gossip has removed the node.
func checkNoLogins(t *testing.T, c *cluster, dead string, killed time.Time) {
	t.Helper()
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	n := 0
	for ; n < 300 || time.Since(killed) < 10*time.Second; n++ {
		asked := time.Since(killed)
		if a := c.mustLogin(fmt.Sprintf("late-%d", n)); a.Node.ID == dead {
			t.Fatalf("login %d was assigned to %s, %v after that node was killed", n, dead, asked)
		}
		<-pace.C
	}
	t.Logf("none of %d logins was assigned to the dead node", n)
}

// splitByNode returns the clients that are on the node, and the others.
func splitByNode(clients []*echoClient, node string) (on, off []*echoClient) {
	for _, ec := range clients {
		if ec.session.Node() == node {
			on = append(on, ec)
		} else {
			off = append(off, ec)
		}
	}
	return on, off
}

// awaitMovedFrom waits until every client has attached to a node other than not,
// and returns the times from since until then, sorted.
func awaitMovedFrom(t *testing.T, clients []*echoClient, not string, since time.Time) []time.Duration {
	t.Helper()
	var waits []time.Duration
	await(t, "clients to attach to another node", 30*time.Second, func() bool {
		waits = waits[:0]
		for _, ec := range clients {
			// A client may first attach to the old node again: a node that drains
			// serves its sessions until they have left.
			m, ok := ec.attachedElsewhere(not, since)
			if !ok {
				return false
			}
			waits = append(waits, m.at.Sub(since))
		}
		return true
	})
	slices.Sort(waits)
	return waits
}
