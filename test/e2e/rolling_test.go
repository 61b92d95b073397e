package e2e

import (
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// TestRolling restarts the nodes of a cluster one after the other, under steady
// traffic in both directions. Every session must move with its stream; no message
// may be lost, duplicated or out of order, and no session may end.
func TestRolling(t *testing.T) {
	c := startCluster(t, 3)
	many, every := pick(90, 2000), pick(50*time.Millisecond, 1500*time.Millisecond)
	clients := startEchoClients(t, many, every, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, clients, 60*time.Second)
	for _, id := range []string{"node-1", "node-2", "node-3"} {
		affected, _ := splitByNode(clients, id)
		asked := time.Now()
		c.nodes[id].terminate()
		if len(affected) > 0 {
			waits := awaitMovedFrom(t, affected, id, asked)
			t.Logf("%s: %d sessions moved, the last one %v after SIGTERM", id, len(affected), waits[len(waits)-1].Round(time.Millisecond))
		}
		if code := c.nodes[id].waitExit(60 * time.Second); code != 0 {
			t.Fatalf("%s ended with exit code %d", id, code)
		}
		c.startNode(id)
		c.awaitNodes()
		awaitEchoes(t, clients, 60*time.Second)
	}
	checkNoLoss(t, clients)
	longest, echoed := time.Duration(0), 0
	for _, ec := range clients {
		ec.mu.Lock()
		longest, echoed = max(longest, ec.slowest), echoed+ec.echoed
		ec.mu.Unlock()
	}
	t.Logf("%d clients, every node restarted: %d messages echoed, 0 lost, 0 duplicated, 0 out of order, 0 logged out; the slowest echo took %v",
		len(clients), echoed, longest.Round(time.Millisecond))
}

// checkNoLoss checks that no client has lost or duplicated a message or had its
// stream reset.
func checkNoLoss(t *testing.T, clients []*echoClient) {
	t.Helper()
	for _, ec := range clients {
		if _, resets, _ := ec.view(); len(resets) > 0 {
			t.Errorf("%s: its stream was reset: %v", ec.session.SessionID(), resets)
		}
		if err := ec.verify(); err != nil {
			t.Errorf("%s: %v", ec.session.SessionID(), err)
		}
	}
}
