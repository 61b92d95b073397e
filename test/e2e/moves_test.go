package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// upheaval is something that an operator does to a node.
type upheaval struct {
	op   string
	node string
	wait time.Duration // before the next
}

// TestMoves cuts the connections of sessions that talk both ways, as TestCuts
// does, while nodes are drained, taken back and restarted under them: no message
// is lost, comes twice or out of order, and no stream is reset.
func TestMoves(t *testing.T) {
	c := startCluster(t, 3, "--rebalance")
	api := c.startBroker("--rebalance")
	api.knows(3)
	rapid.Check(t, func(rt *rapid.T) {
		plans := rapid.Custom(drawPlans).Draw(rt, "plans")
		schedule := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) upheaval {
			return upheaval{
				op:   rapid.SampledFrom([]string{"drain", "undrain", "restart"}).Draw(t, "op"),
				node: fmt.Sprint("node-", rapid.IntRange(1, 3).Draw(t, "node")),
				wait: time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond,
			}
		}), 4, 12).Draw(rt, "upheavals")
		ctx, cancel := context.WithCancel(context.Background())
		var operator sync.WaitGroup
		operator.Go(func() {
			for _, u := range schedule {
				c.upset(api, u)
				select {
				case <-ctx.Done():
					return
				case <-time.After(u.wait):
				}
			}
		})
		surviveAll(t, rt, c.auth.listen, plans)
		cancel()
		operator.Wait()
		for id := range c.nodes { // as it was
			c.undrain(api, id)
		}
		api.knows(3)
	})
}

// upset does it. One node is always left to go to.
func (c *cluster) upset(api *process, u upheaval) {
	c.t.Helper()
	if u.op == "undrain" {
		c.undrain(api, u.node)
		return
	}
	for id := range c.nodes {
		if id != u.node {
			c.undrain(api, id)
		}
	}
	if u.op == "drain" {
		body := `{"keep":true,"window_ms":500,"timeout_ms":3000}`
		await(c.t, "a drain", 20*time.Second, func() bool {
			return order(c.t, http.MethodPut, "http://"+api.listen+"/v1/nodes/"+u.node+"/drain", body) == http.StatusOK
		})
		return
	}
	c.nodes[u.node].terminate()
	if code := c.nodes[u.node].ends(60 * time.Second); code != 0 {
		c.t.Errorf("%s ended with exit code %d", u.node, code)
	}
	c.startNode(u.node, "--drain-window=500ms", "--drain-timeout=5s")
	api.knows(len(c.nodes))
}

// undrain takes a drain back. The node may be slow to answer: it is asked again.
func (c *cluster) undrain(api *process, id string) {
	c.t.Helper()
	await(c.t, id+" to take its drain back", 20*time.Second, func() bool {
		return order(c.t, http.MethodDelete, "http://"+api.listen+"/v1/nodes/"+id+"/drain", "") == http.StatusOK
	})
}

// order makes a request of the private API and returns the status.
func order(t testing.TB, method, url, body string) int {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := web.Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer drain(resp)
	return resp.StatusCode
}
