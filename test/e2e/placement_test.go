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

// TestPlacement logs in 300 clients that attach and stay, and checks that three
// nodes get about the same number. A fourth node that joins later must catch up.
func TestPlacement(t *testing.T) {
	c := startCluster(t, 3)
	assigned := make(map[string]int)
	for i := range 300 {
		a := c.mustLogin(fmt.Sprintf("guest-%d", i))
		attach(t, a, "")
		assigned[a.Node.ID]++
	}
	t.Logf("sessions per node after 300 logins: %v", assigned)
	for id := range c.nodes {
		if n := assigned[id]; n < 80 || n > 120 {
			t.Errorf("%d of 300 logins were assigned to %s, want 80 to 120", n, id)
		}
	}

	c.startNode("node-4")
	joined := time.Now()
	await(t, "a login to be assigned to the node that joined", 10*time.Second, func() bool {
		a := c.mustLogin("late")
		attach(t, a, "")
		return a.Node.ID == "node-4"
	})
	t.Logf("the first login was assigned to the new node after %v", time.Since(joined))
	assigned["node-4"]++
	fillNewNode(t, c, assigned)
}

// fillNewNode logs in more clients until node-4 has at least 90 % of the mean. The
// rate at which a node is filled is bounded, and low at first; node-4 must catch up
// within a minute.
func fillNewNode(t *testing.T, c *cluster, assigned map[string]int) {
	t.Helper()
	began := time.Now()
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	all := func() (n int) {
		for _, on := range assigned {
			n += on
		}
		return n
	}
	n := 0
	for ; float64(assigned["node-4"]) < .9*float64(all())/float64(len(assigned)); n++ {
		if time.Since(began) > time.Minute {
			t.Fatalf("node-4 has not caught up after %d more logins in %v: %v", n, time.Since(began), assigned)
		}
		a := c.mustLogin(fmt.Sprintf("later-%d", n))
		attach(t, a, "")
		assigned[a.Node.ID]++
		<-pace.C
	}
	t.Logf("node-4 caught up after %d more logins in %v: %v", n, time.Since(began).Round(time.Millisecond), assigned)
}

// attach opens a connection with the assignment's URL and token, and reads the
// welcome. The query, if any, begins with "?". The connection is closed when the
// test ends.
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

// dial opens a connection as attach does, without reading from it.
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
