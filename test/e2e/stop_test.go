package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// TestStop ends one node of three in an orderly way, as a rolling restart
// does.
func TestStop(t *testing.T) {
	c := startCluster(t, 3)
	list := talkers(t, 60, 100*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, list, 30*time.Second)

	const leaves = "node-1"
	hit, spared := divide(list, leaves)
	asked := time.Now()
	c.nodes[leaves].terminate()
	waits := awaitElsewhere(t, hit, leaves, asked)
	t.Logf("%d clients are elsewhere, the last after %v", len(waits), waits[len(waits)-1])
	for i := range 100 {
		if a := c.enter(fmt.Sprintf("late-%d", i)); a.Node.ID == leaves {
			t.Fatalf("login %d was sent to a node that leaves, %v after it was told", i, time.Since(asked))
		}
	}
	if code := c.nodes[leaves].ends(20 * time.Second); code != 0 {
		t.Errorf("the node ended with exit code %d", code)
	}

	awaitEchoes(t, list, 30*time.Second)
	for _, tk := range hit {
		if !told(tk, asked) {
			t.Errorf("%s was not told that its node goes away", tk.session.SessionID())
		}
	}
	for _, tk := range spared {
		if states, _, _ := tk.view(); len(states) != 1 {
			t.Errorf("%s, on another node, was disturbed: %v", tk.session.SessionID(), states)
		}
	}
}

// told reports whether the client was told to leave: with a goaway, or with
// the close code that says so.
func told(tk *talker, since time.Time) bool {
	if _, ok := tk.since(usher.Moving, since); ok {
		return true
	}
	m, _ := tk.since(usher.Detached, since)
	var cut *usher.CutError
	return errors.As(m.err, &cut) && cut.Code == proto.CloseGoingAway
}
