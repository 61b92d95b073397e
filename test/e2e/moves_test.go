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

// operation is an action of an operator on a node.
type operation struct {
	op   string // "drain", "undrain" or "restart"
	node string
	wait time.Duration // until the next operation
}

// TestMoves breaks connections as TestCuts does, while nodes are drained, undrained
// and restarted. No message may be lost, duplicated or out of order, and no stream
// may be reset.
func TestMoves(t *testing.T) {
	c := startCluster(t, 3, "--rebalance")
	api := c.startBroker("--rebalance")
	api.awaitEligible(3)
	rapid.Check(t, func(rt *rapid.T) {
		plans := rapid.Custom(drawPlans).Draw(rt, "plans")
		schedule := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) operation {
			return operation{
				op:   rapid.SampledFrom([]string{"drain", "undrain", "restart"}).Draw(t, "op"),
				node: fmt.Sprint("node-", rapid.IntRange(1, 3).Draw(t, "node")),
				wait: time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond,
			}
		}), 4, 12).Draw(rt, "operations")
		ctx, cancel := context.WithCancel(context.Background())
		var operator sync.WaitGroup
		operator.Go(func() {
			for _, u := range schedule {
				c.apply(api, u)
				select {
				case <-ctx.Done():
					return
				case <-time.After(u.wait):
				}
			}
		})
		runPlans(t, rt, c.auth.listen, plans)
		cancel()
		operator.Wait()
		for id := range c.nodes { // the next schedule starts without drains
			c.undrain(api, id)
		}
		api.awaitEligible(3)
	})
}

// apply performs the operation. For a drain or a restart it first undrains the
// other nodes, so that sessions can move to them.
func (c *cluster) apply(api *process, u operation) {
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
			return apiStatus(c.t, http.MethodPut, "http://"+api.listen+"/v1/nodes/"+u.node+"/drain", body) == http.StatusOK
		})
		return
	}
	c.nodes[u.node].terminate()
	if code := c.nodes[u.node].waitExit(60 * time.Second); code != 0 {
		c.t.Errorf("%s ended with exit code %d", u.node, code)
	}
	c.startNode(u.node, "--drain-window=500ms", "--drain-timeout=5s")
	api.awaitEligible(len(c.nodes))
}

// undrain undoes the drain of a node. It repeats the request until it succeeds,
// because the node may be slow to answer.
func (c *cluster) undrain(api *process, id string) {
	c.t.Helper()
	await(c.t, id+" to undo its drain", 20*time.Second, func() bool {
		return apiStatus(c.t, http.MethodDelete, "http://"+api.listen+"/v1/nodes/"+id+"/drain", "") == http.StatusOK
	})
}

// apiStatus sends a request to the private API and returns the status code, 0 if
// the request fails.
func apiStatus(t testing.TB, method, url, body string) int {
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
