package e2e

import (
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// TestRolling restarts every node of a cluster in turn, under traffic: every
// session goes with its stream, and nobody's is reset.
func TestRolling(t *testing.T) {
	c := startCluster(t, 3)
	list := talkers(t, pick(90, 300), 50*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, list, 30*time.Second)
	var longest time.Duration
	for _, id := range []string{"node-1", "node-2", "node-3"} {
		hit, _ := divide(list, id)
		asked := time.Now()
		c.nodes[id].terminate()
		if len(hit) > 0 {
			waits := awaitElsewhere(t, hit, id, asked)
			longest = max(longest, waits[len(waits)-1])
		}
		if code := c.nodes[id].ends(30 * time.Second); code != 0 {
			t.Fatalf("%s ended with exit code %d", id, code)
		}
		c.startNode(id)
		c.awaitNodes()
		awaitEchoes(t, list, 30*time.Second)
	}
	t.Logf("%d clients, every node restarted; the last of a node was elsewhere %v after it was told", len(list), longest)
	for _, tk := range list {
		if _, resets, _ := tk.view(); len(resets) > 0 {
			t.Errorf("%s: streams were reset: %v", tk.session.SessionID(), resets)
		}
		if err := tk.fault(); err != nil {
			t.Errorf("%s: %v", tk.session.SessionID(), err)
		}
	}
}
