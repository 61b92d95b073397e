package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// TestStop stops one node of three with SIGTERM. Its clients must receive a goaway
// or the close code going_away and move; no login may be assigned to it; and it
// must end with exit code 0.
func TestStop(t *testing.T) {
	c := startCluster(t, 3)
	clients := startEchoClients(t, 60, 100*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, clients, 30*time.Second)

	const leaves = "node-1"
	affected, unaffected := splitByNode(clients, leaves)
	asked := time.Now()
	c.nodes[leaves].terminate()
	waits := awaitMovedFrom(t, affected, leaves, asked)
	t.Logf("%d clients moved, the last one after %v", len(waits), waits[len(waits)-1])
	for i := range 100 {
		if a := c.mustLogin(fmt.Sprintf("late-%d", i)); a.Node.ID == leaves {
			t.Fatalf("login %d was assigned to the node that stops, %v after SIGTERM", i, time.Since(asked))
		}
	}
	if code := c.nodes[leaves].waitExit(20 * time.Second); code != 0 {
		t.Errorf("the node ended with exit code %d", code)
	}

	awaitEchoes(t, clients, 30*time.Second)
	for _, ec := range affected {
		if !askedToLeave(ec, asked) {
			t.Errorf("%s received neither a goaway nor the close code going_away", ec.session.SessionID())
		}
	}
	for _, ec := range unaffected {
		if states, _, _ := ec.view(); len(states) != 1 {
			t.Errorf("%s, on another node, was disturbed: %v", ec.session.SessionID(), states)
		}
	}
}

// askedToLeave reports whether the node asked the client to leave: with a goaway,
// or with the close code going_away.
func askedToLeave(ec *echoClient, since time.Time) bool {
	if _, ok := ec.since(usher.Moving, since); ok {
		return true
	}
	m, _ := ec.since(usher.Detached, since)
	var cut *usher.CutError
	return errors.As(m.err, &cut) && cut.Code == proto.CloseGoingAway
}
