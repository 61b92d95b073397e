package e2e

import (
	"fmt"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// TestCheckpoint kills nodes with SIGKILL while their sessions are checkpointed.
// No message may be lost or duplicated, and no stream may be reset.
func TestCheckpoint(t *testing.T) {
	c := startCluster(t, 0)
	for i := range 3 {
		c.startNode(fmt.Sprintf("node-%d", i+1), "--checkpoint")
	}
	c.awaitNodes()
	clients := startEchoClients(t, pick(60, 150), 100*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, clients, 30*time.Second)
	affected := 0
	for round := range pick(3, 20) {
		id := fmt.Sprintf("node-%d", round%3+1)
		on, _ := splitByNode(clients, id)
		affected += len(on)
		c.nodes[id].kill()
		awaitEchoes(t, clients, 60*time.Second)
		c.startNode(id, "--checkpoint")
		c.awaitNodes()
	}
	checkNoLoss(t, clients)
	t.Logf("killed %d nodes with %d sessions: 0 messages lost, 0 duplicated", pick(3, 20), affected)
}
