package broker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/proto"
)

// eligible returns which nodes are eligible.
func (h *fixture) eligible() map[string]bool {
	list := map[string]bool{}
	for _, v := range h.Nodes() {
		list[v.Peer.ID] = v.Eligible()
	}
	return list
}

var errRefused = errors.New("connection refused")

// One client report suspends a node that the broker cannot reach either. The
// node's next report ends the suspension.
func TestFailedProbeSuspends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFixture(t, "node-1", "node-2")
		a := h.assign(ada)
		dead := a.Node.ID
		h.probe = func(_ context.Context, url string) error {
			if url != a.Node.URL {
				t.Errorf("probed %s", url)
			}
			return errRefused
		}
		h.reconnect(a, dead)
		synctest.Wait()
		if got := h.eligible(); got[dead] || !got[other(dead)] {
			t.Fatalf("eligible: %v", got)
		}
		for range 50 {
			if b := h.assign(ada); b.Node.ID == dead {
				t.Fatal("a session was sent to the dead node")
			}
		}
		h.report(dead, proto.StateReady, 0)
		if got := h.eligible(); !got[dead] {
			t.Errorf("after its report: %v", got)
		}
	})
}

// A suspension ends by itself if no report ends it before.
func TestSuspensionExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFixture(t, "node-1", "node-2")
		a := h.assign(ada)
		h.probe = func(context.Context, string) error { return errRefused }
		h.reconnect(a, a.Node.ID)
		synctest.Wait()
		h.clock.advance(5 * time.Second)
		for _, v := range h.Nodes() {
			if v.Peer.ID == a.Node.ID && v.Why() == "" {
				t.Error("eligible without a report")
			}
			if v.Peer.ID == a.Node.ID && v.Why()[:9] == "suspended" {
				t.Errorf("still %s", v.Why())
			}
		}
	})
}

// Client reports do not suspend a node that can be reached or that reports during
// the probe, and cause one probe a second.
func TestClientReportsOfALiveNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFixture(t, "node-1", "node-2")
		a := h.assign(ada)
		probes := 0
		h.probe = func(context.Context, string) error { probes++; return nil }
		for range 20 {
			h.reconnect(a, a.Node.ID)
			a = h.reconnect(a, other(a.Node.ID))
		}
		synctest.Wait()
		if got := h.eligible(); !got["node-1"] || !got["node-2"] {
			t.Errorf("eligible: %v", got)
		}
		if probes == 0 || probes > 2 { // one for each node
			t.Errorf("%d probes at one moment", probes)
		}

		time.Sleep(time.Second) // of the test's own clock
		h.probe = func(context.Context, string) error {
			h.report(a.Node.ID, proto.StateReady, 0)
			return errRefused
		}
		h.reconnect(a, a.Node.ID)
		synctest.Wait()
		if got := h.eligible(); !got[a.Node.ID] {
			t.Error("a node that reported during the probe is suspended")
		}
	})
}

// Close cancels a probe and waits for it.
func TestCloseEndsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFixture(t, "node-1", "node-2")
		a := h.assign(ada)
		cancelled := false
		h.probe = func(ctx context.Context, _ string) error {
			<-ctx.Done()
			cancelled = true
			return ctx.Err()
		}
		start := time.Now()
		h.reconnect(a, a.Node.ID)
		synctest.Wait()
		h.Close()
		if !cancelled || time.Since(start) != 0 {
			t.Errorf("cancelled: %v, after %v", cancelled, time.Since(start))
		}
		if got := h.eligible(); !got[a.Node.ID] {
			t.Error("a cancelled probe suspended the node")
		}
	})
}
