package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/proto"
)

// TestPlacement logs clients in that attach and stay, and looks where they
// land.
func TestPlacement(t *testing.T) {
	c := startCluster(t, 3)
	landed := make(map[string]int)
	for i := range 300 {
		a := c.enter(fmt.Sprintf("guest-%d", i))
		attach(t, a, "")
		landed[a.Node.ID]++
	}
	t.Logf("300 logins landed as %v", landed)
	for id := range c.nodes {
		if n := landed[id]; n < 80 || n > 120 {
			t.Errorf("%d of 300 logins were sent to %s, want 80 to 120", n, id)
		}
	}

	c.startNode("node-4")
	joined := time.Now()
	await(t, "logins to be sent to a node that has joined", 10*time.Second, func() bool {
		a := c.enter("late")
		attach(t, a, "")
		return a.Node.ID == "node-4"
	})
	t.Logf("the first login was sent to the new node after %v", time.Since(joined))
	landed["node-4"]++
	evensOut(t, c, landed)
}

// evensOut logs more clients in until the node that joined empty is as full as
// the others, or nearly. How fast a node is filled is bounded on purpose, and
// slow at first; what is promised is that it has caught up within a minute.
func evensOut(t *testing.T, c *cluster, landed map[string]int) {
	t.Helper()
	began := time.Now()
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	all := func() (n int) {
		for _, on := range landed {
			n += on
		}
		return n
	}
	n := 0
	for ; float64(landed["node-4"]) < .9*float64(all())/float64(len(landed)); n++ {
		if time.Since(began) > time.Minute {
			t.Fatalf("after %d more logins in %v the nodes have %v", n, time.Since(began), landed)
		}
		a := c.enter(fmt.Sprintf("later-%d", n))
		attach(t, a, "")
		landed[a.Node.ID]++
		<-pace.C
	}
	t.Logf("%d more logins in %v evened it out: %v", n, time.Since(began).Round(time.Millisecond), landed)
}

// attach opens a connection as the assignment says and reads its welcome. The
// query is what is said of a stream; it is closed when the test ends.
func attach(t testing.TB, a proto.Assignment, query string) (*websocket.Conn, proto.Welcome) {
	t.Helper()
	ws := dial(t, a, query)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, b, err := ws.Read(ctx)
	if err != nil {
		t.Fatalf("attaching to %s: %v", a.Node.ID, err)
	}
	ctl, err := proto.ParseControl(b)
	if err != nil || ctl.Type != proto.TypeWelcome {
		t.Fatalf("attaching to %s: %q: %v", a.Node.ID, b, err)
	}
	return ws, ctl.Welcome
}

// dial opens a connection and reads nothing.
func dial(t testing.TB, a proto.Assignment, query string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, a.Node.URL+query, &websocket.DialOptions{
		HTTPClient: web, HTTPHeader: http.Header{"Authorization": {"Bearer " + a.Token}},
		Subprotocols: []string{proto.Subprotocol},
	})
	if err != nil {
		t.Fatalf("dialling %s: %v", a.Node.ID, err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}
