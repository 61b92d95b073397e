package redistest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Cluster is a Redis Cluster of three masters on loopback, without replicas.
type Cluster struct {
	Servers [3]*Server // the masters; the test may pause them, but not restart them
}

// slots is the number of slots of a Redis Cluster.
const slots = 16384

// StartCluster starts a cluster, waits until every master knows the owner of every
// slot, and stops the cluster when the test ends.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	c := new(Cluster)
	for i := range c.Servers {
		// The timeout is long, because masters that have not reached another one
		// for that time refuse all commands, and a test may need the time before.
		c.Servers[i] = Start(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
			"--cluster-node-timeout", "60000")
	}
	if err := c.join(); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	deadline := time.Now().Add(ready)
	for !c.complete() {
		if time.Now().After(deadline) {
			t.Fatalf("redistest: the cluster is not complete after %v\n%s", ready, c.Servers[0].log())
		}
		time.Sleep(20 * time.Millisecond)
	}
	return c
}

// URL returns redis-cluster://127.0.0.1:port,127.0.0.1:port,127.0.0.1:port
func (c *Cluster) URL() string {
	addrs := make([]string, len(c.Servers))
	for i, s := range c.Servers {
		addrs[i] = s.Addr()
	}
	return "redis-cluster://" + strings.Join(addrs, ",")
}

// join distributes the slots over the masters, and makes the masters known to each
// other.
func (c *Cluster) join() error {
	for i, s := range c.Servers {
		add := []string{"CLUSTER", "ADDSLOTS"}
		for slot := slots * i / len(c.Servers); slot < slots*(i+1)/len(c.Servers); slot++ {
			add = append(add, strconv.Itoa(slot))
		}
		commands := [][]string{
			add,
			// Masters with the same epoch would resolve the conflict themselves, but
			// slowly.
			{"CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i + 1)},
		}
		if i > 0 {
			commands = append(commands, []string{"CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(c.Servers[0].port)})
		}
		if _, err := call(s.Addr(), commands...); err != nil {
			return fmt.Errorf("master %d: %w", i, err)
		}
	}
	return nil
}

// complete reports whether every master knows all others and all slots.
func (c *Cluster) complete() bool {
	for _, s := range c.Servers {
		for _, text := range []string{"cluster_state:ok", "cluster_known_nodes:3", "cluster_size:3"} {
			if !s.says(text, "CLUSTER", "INFO") {
				return false
			}
		}
	}
	return true
}
