package e2e

import (
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// TestRolling restarts every node of a cluster in turn, under steady traffic
// both ways: every session goes with its stream; nothing is lost, doubled or out
// of order, and nobody is logged out.
func TestRolling(t *testing.T) {
	c := startCluster(t, 3)
	many, every := pick(90, 2000), pick(50*time.Millisecond, 1500*time.Millisecond)
	list := talkers(t, many, every, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, list, 60*time.Second)
	for _, id := range []string{"node-1", "node-2", "node-3"} {
		hit, _ := divide(list, id)
		asked := time.Now()
		c.nodes[id].terminate()
		if len(hit) > 0 {
			waits := awaitElsewhere(t, hit, id, asked)
			t.Logf("%s: %d sessions, the last is elsewhere %v after it was told", id, len(hit), waits[len(waits)-1].Round(time.Millisecond))
		}
		if code := c.nodes[id].ends(60 * time.Second); code != 0 {
			t.Fatalf("%s ended with exit code %d", id, code)
		}
		c.startNode(id)
		c.awaitNodes()
		awaitEchoes(t, list, 60*time.Second)
	}
	unharmed(t, list)
	longest, sent := time.Duration(0), 0
	for _, tk := range list {
		tk.mu.Lock()
		longest, sent = max(longest, tk.slowest), sent+tk.echoed
		tk.mu.Unlock()
	}
	t.Logf("%d clients, every node restarted: %d messages there and back, 0 lost, 0 doubled, 0 out of order, 0 logged out; the longest silence was %v",
		len(list), sent, longest.Round(time.Millisecond))
}

// unharmed checks that no talker has lost, doubled or reset anything.
func unharmed(t *testing.T, list []*talker) {
	t.Helper()
	for _, tk := range list {
		if _, resets, _ := tk.view(); len(resets) > 0 {
			t.Errorf("%s: streams were reset: %v", tk.session.SessionID(), resets)
		}
		if err := tk.fault(); err != nil {
			t.Errorf("%s: %v", tk.session.SessionID(), err)
		}
	}
}
