package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session/redistest"
	"github.com/usher-broker/usher/proto"
)

// cluster is one auth and some nodes, which share a Redis server.
type cluster struct {
	t     testing.TB
	redis *redistest.Server
	keys  string // path of the file with the signing keys
	auth  *process
	nodes map[string]*process
}

// startCluster starts a cluster and returns when its auth can assign sessions to
// all nodes.
func startCluster(t testing.TB, nodes int, authFlags ...string) *cluster {
	t.Helper()
	c := &cluster{
		t: t, redis: redistest.Start(t), keys: filepath.Join(t.TempDir(), "signing.jwks"),
		nodes: make(map[string]*process),
	}
	c.makeKey()
	c.auth = startRole(t, "auth", append([]string{
		"auth", "--guest", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0",
		"--redis=" + c.redis.URL(), "--signing-key=" + c.keys,
	}, authFlags...)...)
	for i := range nodes {
		c.startNode(fmt.Sprintf("node-%d", i+1))
	}
	c.awaitNodes()
	return c
}

// makeKey writes a signing key with "usher keys signing" and the given flags.
func (c *cluster) makeKey(flags ...string) {
	c.t.Helper()
	cmd := exec.Command(usherBin, append([]string{"keys", "signing", "--out", c.keys}, flags...)...)
	if text, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("usher keys signing: %v\n%s", err, text)
	}
}

// startNode starts a node and returns when it is ready. Auth may not know it yet:
// see awaitNodes.
func (c *cluster) startNode(id string, flags ...string) *process {
	c.t.Helper()
	gossip := "127.0.0.1:0"
	if old := c.nodes[id]; old != nil { // on its old address the members find it at once
		gossip = old.gossip
	}
	p := startRole(c.t, id, append([]string{
		"node", "--id=" + id, "--listen=127.0.0.1:0", "--gossip=" + gossip, "--join=" + c.auth.gossip,
		"--redis=" + c.redis.URL(), "--jwks=" + c.url("/.well-known/jwks.json"),
	}, flags...)...)
	c.nodes[id] = p
	return p
}

// awaitNodes waits until auth can assign sessions to every node and knows its
// load. It counts two reports per node, so that at least one of each node has
// arrived.
func (c *cluster) awaitNodes() {
	c.t.Helper()
	const members, reports = "usher_gossip_members", "usher_gossip_reports_received_total"
	c.auth.await("know the nodes", startTimeout, func() bool {
		return int(c.auth.metrics()[members]) >= 1+len(c.nodes)
	})
	c.auth.await("reach the nodes", startTimeout, func() bool {
		return int(c.auth.metrics()["usher_nodes_eligible"]) >= len(c.nodes)
	})
	before := c.auth.metrics()[reports]
	c.auth.await("receive load reports", startTimeout, func() bool {
		return int(c.auth.metrics()[reports]-before) >= 2*len(c.nodes)
	})
}

// startAuth starts another auth and returns when it can assign sessions to all
// nodes.
func (c *cluster) startAuth(name string, flags ...string) *process {
	c.t.Helper()
	p := startRole(c.t, name, append([]string{
		"auth", "--guest", "--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--join=" + c.auth.gossip,
		"--redis=" + c.redis.URL(), "--signing-key=" + c.keys,
	}, flags...)...)
	p.await("reach the nodes", startTimeout, func() bool {
		return int(p.metrics()["usher_nodes_eligible"]) >= len(c.nodes)
	})
	return p
}

// url returns the URL of a path of auth.
func (c *cluster) url(path string) string { return "http://" + c.auth.listen + path }

// login tries to log a guest in and returns the answer.
func (c *cluster) login(name string) answer {
	c.t.Helper()
	return post(c.t, c.url("/v1/login"), "", fmt.Sprintf(`{"method":"guest","credentials":{"name":%q}}`, name))
}

// mustLogin logs a guest in, and fails the test if the answer is not 200.
func (c *cluster) mustLogin(name string) proto.Assignment {
	c.t.Helper()
	a := c.login(name)
	if a.status != 200 {
		c.t.Fatalf("login of %s: %v", name, a)
	}
	return a.at
}

// awaitLogin repeats a login until it succeeds.
func (c *cluster) awaitLogin(name string, within time.Duration) (at proto.Assignment) {
	c.t.Helper()
	await(c.t, "a login", within, func() bool {
		a := c.login(name)
		at = a.at
		return a.status == 200
	})
	return at
}
