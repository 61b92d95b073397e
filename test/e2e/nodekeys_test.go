package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestUnsignedNode starts a node that has the gossip key but not the key that node
// records are signed with: first with its own id, then with the id of a node that
// has died. Auth must assign no session to it, and none to a node whose URL is not
// listed in --node-urls.
func TestUnsignedNode(t *testing.T) {
	dir := t.TempDir()
	private, public := filepath.Join(dir, "node.key"), filepath.Join(dir, "node.keys")
	line, err := exec.Command(usherBin, "keys", "node", "--out", private).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(public, line, 0o600); err != nil {
		t.Fatal(err)
	}
	c := startCluster(t, 0, "--node-keys="+public, "--node-urls=ws://127.0.0.1")
	genuine := c.startNode("node-1", "--node-key="+private)
	unsigned := c.startNode("node-2")
	wrongURL := c.startNode("node-3", "--node-key="+private, "--advertise=ws://localhost:1/v1/connect")
	c.auth.await("refuse two of the three nodes", startTimeout, func() bool {
		output := c.auth.output.String()
		return c.auth.metrics()["usher_nodes_eligible"] == 1 &&
			strings.Contains(output, "not signed by a key of --node-keys") && strings.Contains(output, "matches no pattern of --node-urls")
	})
	at := c.mustLogin("ada")
	for i := range 50 {
		if a := c.mustLogin(fmt.Sprint("guest-", i)); a.Node.ID != "node-1" || a.Node.URL != genuine.url {
			t.Fatalf("a login was assigned to %+v, want node-1 at %s", a.Node, genuine.url)
		}
	}
	wrongURL.terminate()
	wrongURL.waitExit(30 * time.Second)

	// The genuine node dies, and the unsigned node takes its id.
	genuine.kill()
	unsigned.kill()
	c.auth.await("find no eligible node", 30*time.Second, func() bool { return c.auth.metrics()["usher_nodes_eligible"] == 0 })
	unsigned = c.startNode("node-1")
	for end := time.Now().Add(pick(2*time.Second, 10*time.Second)); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		// Auth may assign the dead genuine node, or answer 503.
		for _, a := range []answer{c.login("bob"), post(t, c.url("/v1/reconnect"), at.Token, `{"unreachable":"node-1"}`)} {
			if a.status == 200 && a.at.Node.URL != genuine.url || a.status != 200 && a.status != 503 {
				t.Fatalf("while only the unsigned node at %s runs: %v, want 503 or %s", unsigned.url, a, genuine.url)
			}
		}
	}
	if c.auth.metrics()["usher_nodes_eligible"] != 0 {
		t.Error("the unsigned node is eligible for sessions")
	}
}
