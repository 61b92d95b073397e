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

// TestRogueNode has somebody with the gossip key, and all else that a node has but
// the key that records are signed with, offer places for sessions: as a node of
// its own, and as one that has died. Nobody is sent there.
func TestRogueNode(t *testing.T) {
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
	honest := c.startNode("node-1", "--node-key="+private)
	rogue := c.startNode("node-2")
	wrong := c.startNode("node-3", "--node-key="+private, "--advertise=ws://localhost:1/v1/connect")
	c.auth.await("hear of all three", starts, func() bool {
		said := c.auth.said.String()
		return c.auth.metrics()["usher_nodes_eligible"] == 1 &&
			strings.Contains(said, "not signed by a key of --node-keys") && strings.Contains(said, "none of --node-urls")
	})
	at := c.enter("ada")
	for i := range 50 {
		if a := c.enter(fmt.Sprint("guest-", i)); a.Node.ID != "node-1" || a.Node.URL != honest.url {
			t.Fatalf("sent to %+v", a.Node)
		}
	}
	wrong.terminate()
	wrong.ends(30 * time.Second)

	// The honest one dies, and the rogue takes its name.
	honest.kill()
	rogue.kill()
	c.auth.await("bury the honest node", 30*time.Second, func() bool { return c.auth.metrics()["usher_nodes_eligible"] == 0 })
	rogue = c.startNode("node-1")
	for end := time.Now().Add(pick(2*time.Second, 10*time.Second)); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		// To the honest one, where nobody answers, or nowhere.
		for _, a := range []answer{c.login("bob"), post(t, c.url("/v1/reconnect"), at.Token, `{"unreachable":"node-1"}`)} {
			if a.status == 200 && a.at.Node.URL != honest.url || a.status != 200 && a.status != 503 {
				t.Fatalf("while none but the rogue at %s is there: %v", rogue.url, a)
			}
		}
	}
	if c.auth.metrics()["usher_nodes_eligible"] != 0 {
		t.Error("the rogue is given sessions")
	}
}
