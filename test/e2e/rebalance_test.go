package e2e

import (
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// TestRebalance adds a node to two nodes with 240 clients that exchange messages.
// Sessions must move to the new node with their streams until it has its share,
// and then no session may move.
func TestRebalance(t *testing.T) {
	c := startCluster(t, 2, "--rebalance")
	clients := startEchoClients(t, 240, 200*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, clients, 30*time.Second)
	c.startNode("node-3")
	c.awaitNodes()
	began := time.Now()
	count := func() int { on, _ := splitByNode(clients, "node-3"); return len(on) }
	await(t, "the new node to have its share", 60*time.Second, func() bool { return count() >= 68 })
	took := time.Since(began)
	time.Sleep(8 * time.Second) // the clients that were asked last have moved
	even := count()
	moves := func() (n int) {
		for _, ec := range clients {
			states, _, _ := ec.view()
			n += len(states)
		}
		return n
	}
	before := moves()
	time.Sleep(5 * time.Second)
	if after := moves(); after != before {
		t.Errorf("%d state changes of clients after the nodes were even, want 0", after-before)
	}
	if even < 68 || even > 92 {
		t.Errorf("the new node has %d of 240 sessions, want 68 to 92", even)
	}
	awaitEchoes(t, clients, 30*time.Second)
	checkNoLoss(t, clients)
	t.Logf("the new node had its share after %v and has %d of 240 sessions", took.Round(time.Millisecond), even)
}
