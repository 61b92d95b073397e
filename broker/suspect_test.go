package broker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/proto"
)

// eligible says which nodes are offered sessions.
func (h *house) eligible() map[string]bool {
	list := map[string]bool{}
	for _, v := range h.Nodes() {
		list[v.Peer.ID] = v.Eligible
	}
	return list
}

var errRefused = errors.New("connection refused")

// One client that cannot reach its node is enough, when the broker cannot
// reach it either; the node's next report ends it.
func TestSuspectThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "node-1", "node-2")
		a := h.assign(ada)
		dead := a.Node.ID
		h.probe = func(_ context.Context, url string) error {
			if url != a.Node.URL {
				t.Errorf("probed %s", url)
			}
			return errRefused
		}
		h.back(a, dead)
		synctest.Wait()
		if got := h.eligible(); got[dead] || !got[other(dead)] {
			t.Fatalf("eligible: %v", got)
		}
		for range 50 {
			if b := h.assign(ada); b.Node.ID == dead {
				t.Fatal("a session was sent to the dead node")
			}
		}
		h.says(dead, proto.StateReady, 0)
		if got := h.eligible(); !got[dead] {
			t.Errorf("after its report: %v", got)
		}
	})
}

// A suspension that no report ends, ends by itself.
func TestSuspicionPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "node-1", "node-2")
		a := h.assign(ada)
		h.probe = func(context.Context, string) error { return errRefused }
		h.back(a, a.Node.ID)
		synctest.Wait()
		h.clock.pass(5 * time.Second)
		for _, v := range h.Nodes() {
			if v.Peer.ID == a.Node.ID && v.Why == "" {
				t.Error("it is as good as one that reports")
			}
			if v.Peer.ID == a.Node.ID && v.Why[:9] == "suspended" {
				t.Errorf("still %s", v.Why)
			}
		}
	})
}

// What clients say has no effect on a node that can be reached, or that reports
// while it is probed, and costs one probe a second.
func TestSuspectThatLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "node-1", "node-2")
		a := h.assign(ada)
		probes := 0
		h.probe = func(context.Context, string) error { probes++; return nil }
		for range 20 {
			h.back(a, a.Node.ID)
			a = h.back(a, other(a.Node.ID))
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
			h.says(a.Node.ID, proto.StateReady, 0)
			return errRefused
		}
		h.back(a, a.Node.ID)
		synctest.Wait()
		if got := h.eligible(); !got[a.Node.ID] {
			t.Error("a node that reported meanwhile is suspended")
		}
	})
}

// Close gives a probe up and waits for it.
func TestCloseEndsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "node-1", "node-2")
		a := h.assign(ada)
		over := false
		h.probe = func(ctx context.Context, _ string) error {
			<-ctx.Done()
			over = true
			return ctx.Err()
		}
		start := time.Now()
		h.back(a, a.Node.ID)
		synctest.Wait()
		h.Close()
		if !over || time.Since(start) != 0 {
			t.Errorf("over: %v, after %v", over, time.Since(start))
		}
		if got := h.eligible(); !got[a.Node.ID] {
			t.Error("a probe that was given up suspended the node")
		}
	})
}
