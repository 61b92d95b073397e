package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// TestRotation adds a signing key to a running cluster. Auth must publish it before
// it signs with it, and tokens of both keys must stay valid.
func TestRotation(t *testing.T) {
	// A node fetches the keys for an unknown key id at most once in 10 s.
	c := startCluster(t, 2, "--key-overlap=11s")
	before := c.mustLogin("ada")
	old := kid(t, before.Token)
	stays, _ := attach(t, before, "")

	c.makeKey("--add")
	added := time.Now()
	await(t, "the new key to be published", 10*time.Second, func() bool { return publishedKeys(t, c) == 2 })
	if time.Since(added) < 10*time.Second {
		if k := kid(t, c.mustLogin("bob").Token); k != old {
			t.Errorf("the new key signs %v after it was made, before every node knows it", time.Since(added))
		}
	}
	var after proto.Assignment
	await(t, "the new key to sign", 30*time.Second, func() bool {
		after = c.mustLogin("cyd")
		return kid(t, after.Token) != old
	})
	t.Logf("the new key signs %v after it was made", time.Since(added))

	// Nodes and auth must accept tokens of both keys.
	attach(t, after, "")
	for i := range 20 {
		attach(t, c.mustLogin(fmt.Sprint("dan-", i)), "")
	}
	attach(t, before, "")
	await(t, "the older connection to be replaced", 10*time.Second, func() bool { return awaitClose(stays) == proto.CloseReplaced })
	for _, a := range []proto.Assignment{before, after} {
		if got := post(t, c.url("/v1/reconnect"), a.Token, "{}"); got.status != 200 {
			t.Errorf("reconnect with a token of key %s: %v", kid(t, a.Token), got)
		}
	}
}

// publishedKeys returns the number of keys in auth's JWKS.
func publishedKeys(t *testing.T, c *cluster) int {
	t.Helper()
	resp, err := web.Get(c.url("/.well-known/jwks.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer drain(resp)
	var set struct{ Keys []json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	return len(set.Keys)
}

// kid returns the id of the key that signed the token.
func kid(t *testing.T, token string) string {
	t.Helper()
	header, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(header)
	var h struct{ Kid string }
	if err != nil || json.Unmarshal(b, &h) != nil || h.Kid == "" {
		t.Fatalf("the token has no key id in its header %q", header)
	}
	return h.Kid
}

// TestGossipRotation replaces the gossip key of a cluster in the three steps of
// "usher keys gossip", while clients exchange messages. No member may lose another
// one, and no connection may drop.
func TestGossipRotation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gossip.key")
	if err := os.WriteFile(file, []byte(usherCommand(t, 0, "keys", "gossip")), 0o600); err != nil {
		t.Fatal(err)
	}
	key := "--gossip-key-file=" + file
	c := startCluster(t, 0, key)
	for _, id := range []string{"node-1", "node-2"} {
		c.startNode(id, key)
	}
	c.awaitNodes()
	clients := startEchoClients(t, 20, 50*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, clients, startTimeout)
	began := time.Now()
	members := []*process{c.auth, c.nodes["node-1"], c.nodes["node-2"]}
	for i, step := range []string{"add", "use", "prune"} {
		usherCommand(t, 0, "keys", "gossip", "--file="+file, "--step="+step)
		for _, p := range members {
			p.await("use the keys of step "+step, 15*time.Second, func() bool {
				return strings.Count(p.output.String(), `"msg":"new gossip keys in use"`) == i+1
			})
		}
	}
	// Reports between the members still arrive, encrypted with the new key.
	before := c.auth.metrics()["usher_gossip_reports_received_total"]
	c.auth.await("receive reports of the nodes", 10*time.Second, func() bool {
		return c.auth.metrics()["usher_gossip_reports_received_total"] >= before+6
	})
	for _, p := range members {
		m := p.metrics()
		if m["usher_gossip_members"] != 3 || m["usher_gossip_warnings_total"] != 0 {
			t.Errorf("%s knows %v members, want 3, and has %v gossip warnings, want 0", p.name, m["usher_gossip_members"], m["usher_gossip_warnings_total"])
		}
	}
	c.startNode("node-3", key)
	c.awaitNodes()
	awaitEchoes(t, clients, startTimeout)
	checkNoLoss(t, clients)
	for _, ec := range clients {
		if m, ok := ec.since(usher.Detached, began); ok {
			t.Errorf("%s lost its connection: %v", ec.session.SessionID(), m.err)
		}
	}
}
