package e2e

import (
	"fmt"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// TestCheckpoint kills nodes, as kill -9 does, under clients whose sessions are
// checkpointed: nothing is lost or doubled, and nobody is told of a reset.
func TestCheckpoint(t *testing.T) {
	c := startCluster(t, 0)
	for i := range 3 {
		c.startNode(fmt.Sprintf("node-%d", i+1), "--checkpoint")
	}
	c.awaitNodes()
	list := talkers(t, pick(60, 150), 100*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, list, 30*time.Second)
	hit := 0
	for round := range pick(3, 20) {
		id := fmt.Sprintf("node-%d", round%3+1)
		on, _ := divide(list, id)
		hit += len(on)
		c.nodes[id].kill()
		awaitEchoes(t, list, 60*time.Second)
		c.startNode(id, "--checkpoint")
		c.awaitNodes()
	}
	unharmed(t, list)
	t.Logf("%d nodes killed, %d sessions with them: 0 lost, 0 doubled", pick(3, 20), hit)
}
