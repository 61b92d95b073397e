package broker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/proto"
)

// A restarted node is a new node: reports of the old start, also late ones, do
// not count for it.
func TestNodeStartedAgain(t *testing.T) {
	h := newFixture(t, "node-1", "node-2")
	a := h.assign(ada)
	h.report(a.Node.ID, proto.StateDraining, 1)
	h.join(a.Node.ID, func(p *proto.Peer) { p.Generation = 2 })
	h.report(a.Node.ID, proto.StateDraining, 1) // of generation 1
	if b := h.reconnect(a, ""); b.Node != a.Node || h.counts.of("picked ok") != 1 {
		t.Errorf("sent to %s, counted %v", b.Node.ID, h.counts.n)
	}
}

// Reports may arrive in any order: the last one sent counts.
func TestReportsOutOfOrder(t *testing.T) {
	h := newFixture(t, "node-1", "node-2")
	a := h.assign(ada)
	h.Report(proto.Report{ID: a.Node.ID, Generation: 1, Seq: 2, State: proto.StateReady, Capacity: 1000})
	h.Report(proto.Report{ID: a.Node.ID, Generation: 1, Seq: 1, State: proto.StateDraining, Capacity: 1000})
	if b := h.reconnect(a, ""); b.Node != a.Node || h.counts.of("picked ok") != 1 {
		t.Errorf("sent to %s, counted %v", b.Node.ID, h.counts.n)
	}
}

func TestEventsOfOthers(t *testing.T) {
	h := newFixture(t, "node-1")
	h.Update(proto.Peer{ID: "broker-2", Role: proto.RoleBroker})
	h.Report(proto.Report{ID: "node-9", Generation: 1, Seq: 1, State: proto.StateReady, Capacity: 10})
	h.Leave("node-9")
	h.Leave(issuer) // this broker itself
	views := h.Nodes()
	if len(views) != 1 || views[0].Peer.ID != "node-1" {
		t.Errorf("nodes %+v", views)
	}
	if _, ok := h.Node("node-9"); ok {
		t.Error("node-9 is known")
	}
	a := h.assign(ada)
	two := h.estimate("node-1") // with two brokers, one pending session counts as two
	h.Leave("broker-2")
	if one := h.estimate("node-1"); two != 2 || one != 1 {
		t.Errorf("estimates %v and %v with %s pending", two, one, a.Session)
	}
}

func (h *fixture) estimate(id string) float64 {
	v, _ := h.Node(id)
	return v.Estimate
}

// Run updates the table of the nodes with the time. Only then does this broker's
// share follow the arrivals, and with it the estimate.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New(time.Now)
		defer store.Close()
		b, err := broker.New(broker.Config{
			Issuer: issuer, Store: store, Signer: signer{}, Cluster: &cluster{},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error)
		go func() { ended <- b.Run(ctx) }()

		b.Update(proto.Peer{ID: "node-1", Role: proto.RoleNode, State: proto.StateReady, Capacity: 1000, Generation: 1})
		b.Report(proto.Report{ID: "node-1", Generation: 1, Seq: 1, State: proto.StateReady, Capacity: 1000})
		if _, err := b.Assign(t.Context(), ada); err == nil { // the pick stays pending
			t.Fatal("signed without keys")
		}
		b.Report(proto.Report{ID: "node-1", Generation: 1, Seq: 2, State: proto.StateReady, Capacity: 1000, ArrivedAll: 100})
		before, _ := b.Node("node-1")
		time.Sleep(150 * time.Millisecond)
		synctest.Wait()
		after, _ := b.Node("node-1")
		if before.Estimate != 1 || after.Estimate < 2 {
			t.Errorf("estimates %v and %v", before.Estimate, after.Estimate)
		}

		stop := errors.New("enough")
		cancel(stop)
		if err := <-ended; err != stop {
			t.Errorf("ended with %v", err)
		}
	})
}
