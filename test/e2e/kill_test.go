package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// TestKill kills one node of three, as kill -9 does, while 300 clients talk.
func TestKill(t *testing.T) {
	c := startCluster(t, 3)
	list := talkers(t, 300, 250*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, list, 30*time.Second)

	const dead = "node-2"
	hit, spared := divide(list, dead)
	if len(hit) < 50 {
		t.Fatalf("%d of 300 clients are on %s: too few to say anything", len(hit), dead)
	}
	before := c.auth.metrics()
	killed := time.Now()
	c.nodes[dead].kill()

	waits := awaitElsewhere(t, hit, dead, killed)
	at := func(share float64) time.Duration { return waits[int(share*float64(len(waits)-1))] }
	t.Logf("%d clients of the dead node are back after: 50%% %v, 90%% %v, 99%% %v, all %v",
		len(waits), at(.5), at(.9), at(.99), at(1))
	if late := at(.99); late > 10*time.Second {
		t.Errorf("99 of 100 clients are back after %v, must be within 10 s", late)
	}

	shunned(t, c, dead, killed) // from here on

	awaitEchoes(t, list, 30*time.Second)
	for _, tk := range hit {
		if _, resets, _ := tk.view(); !slices.Equal(resets, []string{proto.ResetNodeLost}) {
			t.Errorf("%s was told of resets %q, want one: %s", tk.session.SessionID(), resets, proto.ResetNodeLost)
		}
	}
	for _, tk := range spared {
		if states, resets, _ := tk.view(); len(states) != 1 || len(resets) != 0 {
			t.Errorf("%s, on another node, was disturbed: %v, resets %q", tk.session.SessionID(), states, resets)
		}
	}
	const moved = `usher_reassignments_total{reason="unreachable",result="ok"}`
	if n := c.auth.metrics()[moved] - before[moved]; int(n) < len(hit)*9/10 {
		t.Errorf("%v sessions were moved by /v1/reconnect as unreachable, of %d", n, len(hit))
	}
}

// shunned checks that no login is sent to the dead node: neither while auth
// has only the clients' word and its own probe, nor when its last report is old,
// nor when gossip has buried it.
func shunned(t *testing.T, c *cluster, dead string, killed time.Time) {
	t.Helper()
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	n := 0
	for ; n < 300 || time.Since(killed) < 10*time.Second; n++ {
		asked := time.Since(killed)
		if a := c.enter(fmt.Sprintf("late-%d", n)); a.Node.ID == dead {
			t.Fatalf("a login was sent to %s, %v after it was killed and %d logins after its clients were back", dead, asked, n)
		}
		<-pace.C
	}
	t.Logf("of %d logins since, none was sent to the dead node", n)
}

// divide returns the clients that are on the node, and the others.
func divide(list []*talker, node string) (on, off []*talker) {
	for _, tk := range list {
		if tk.session.Node() == node {
			on = append(on, tk)
		} else {
			off = append(off, tk)
		}
	}
	return on, off
}

// awaitElsewhere waits until every client is attached to another node and
// returns how long that took them, the longest last.
func awaitElsewhere(t *testing.T, list []*talker, not string, since time.Time) []time.Duration {
	t.Helper()
	var waits []time.Duration
	await(t, "clients to be back elsewhere", 30*time.Second, func() bool {
		waits = waits[:0]
		for _, tk := range list {
			// One that leaves in order may be back there once: it serves those it
			// holds until they have left.
			m, ok := tk.elsewhere(not, since)
			if !ok {
				return false
			}
			waits = append(waits, m.at.Sub(since))
		}
		return true
	})
	slices.Sort(waits)
	return waits
}
