package e2e

import (
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// TestRebalance starts a third node beside two that are full of talking
// clients: sessions move there until it has its share, with their streams, and
// then no more.
func TestRebalance(t *testing.T) {
	c := startCluster(t, 2, "--rebalance")
	list := talkers(t, 240, 200*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, list, 30*time.Second)
	c.startNode("node-3")
	c.awaitNodes()
	began := time.Now()
	count := func() int { on, _ := divide(list, "node-3"); return len(on) }
	await(t, "the new node to have its share", 60*time.Second, func() bool { return count() >= 68 })
	took := time.Since(began)
	time.Sleep(8 * time.Second) // those asked last have left
	even := count()
	moves := func() (n int) {
		for _, tk := range list {
			states, _, _ := tk.view()
			n += len(states)
		}
		return n
	}
	before := moves()
	time.Sleep(5 * time.Second)
	if after := moves(); after != before {
		t.Errorf("%d changes of state after all was even", after-before)
	}
	if even < 68 || even > 92 {
		t.Errorf("the new node has %d of 240 sessions", even)
	}
	awaitEchoes(t, list, 30*time.Second)
	unharmed(t, list)
	t.Logf("the new node had its share after %v, and has %d of 240", took.Round(time.Millisecond), even)
}
