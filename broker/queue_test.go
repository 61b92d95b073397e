package broker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

func user(name string) proto.AssignmentRequest { return proto.AssignmentRequest{User: name} }

// enter calls Enter and checks that it returns either an assignment or an entry.
func (h *fixture) enter(name, entry string) (proto.Assignment, broker.Waiting) {
	h.t.Helper()
	a, w, err := h.Enter(h.t.Context(), user(name), entry)
	if err != nil {
		h.t.Fatal(err)
	}
	if (a.Token == "") != (w.Entry != "") {
		h.t.Fatalf("%+v and %+v", a, w)
	}
	return a, w
}

// newSmallFixture returns a fixture with one node of that capacity.
func newSmallFixture(t *testing.T, capacity uint32) *fixture {
	h := newFixture(t)
	h.join("node-1", func(p *proto.Peer) { p.Capacity = capacity })
	return h
}

// reportTwice makes node-1 report the load twice, 9 s apart.
func (h *fixture) reportTwice(live, capacity uint32) {
	h.seq++
	h.Report(proto.Report{ID: "node-1", Generation: 1, Seq: h.seq, State: proto.StateReady, Capacity: capacity, Live: live})
	h.clock.advance(9 * time.Second) // pending sessions have expired
	h.seq++
	h.Report(proto.Report{ID: "node-1", Generation: 1, Seq: h.seq, State: proto.StateReady, Capacity: capacity, Live: live})
}

func TestEnter(t *testing.T) {
	h := newSmallFixture(t, 2)
	h.enter("ada", "")
	h.enter("bob", "")
	h.reportTwice(2, 2)
	var waiting []broker.Waiting
	for i, name := range []string{"cid", "dan", "eve"} {
		_, w := h.enter(name, "")
		if w.Ahead != i || w.Waiting != i+1 || w.Again <= 0 || w.Again > time.Second || w.Estimate != 0 {
			t.Errorf("%s: %+v", name, w)
		}
		waiting = append(waiting, w)
	}
	h.reportTwice(1, 2) // one has left
	if _, w := h.enter("fay", ""); w.Ahead != 3 {
		t.Errorf("a new login was admitted before waiting ones: %+v", w)
	}
	if _, w := h.enter("dan", waiting[1].Entry); w.Ahead != 1 {
		t.Errorf("the second was admitted before the first: %+v", w)
	}
	a, _ := h.enter("cid", waiting[0].Entry)
	if a.Node.ID != "node-1" || a.User != "cid" {
		t.Errorf("%+v", a)
	}
	again, _ := h.enter("cid", waiting[0].Entry) // the answer was lost
	if again.Session != a.Session {
		t.Errorf("asked again: session %s, then %s", a.Session, again.Session)
	}
	_, w := h.enter("dan", waiting[1].Entry)
	if w.Ahead != 0 || w.Estimate <= 0 {
		t.Errorf("%+v", w)
	}
	for label, want := range map[string]int{
		"waited default queued": 4, "waited default admitted": 1, "waited default kept": 2,
	} {
		if got := h.counts.of(label); got != want {
			t.Errorf("%s: %d, want %d", label, got, want)
		}
	}
}

// An entry that does not ask again expires, and the next one moves up.
func TestAbandonedEntries(t *testing.T) {
	h := newSmallFixture(t, 1)
	h.enter("ada", "")
	h.reportTwice(1, 1)
	h.enter("cid", "")
	_, dan := h.enter("dan", "")
	for range 3 {
		h.reportTwice(1, 1) // 9 s pass
		if _, w := h.enter("dan", dan.Entry); w.Ahead < 0 {
			t.Fatal(w)
		}
	}
	if _, w := h.enter("dan", dan.Entry); w.Ahead != 0 || w.Waiting != 1 {
		t.Errorf("%+v", w)
	}
	if n := h.counts.of("waited default abandoned"); n != 1 {
		t.Errorf("%d abandoned", n)
	}
}

// An unknown or expired entry joins the queue at its end.
func TestUnknownEntry(t *testing.T) {
	h := newSmallFixture(t, 1)
	h.enter("ada", "")
	h.reportTwice(1, 1)
	h.enter("cid", "")
	if _, w := h.enter("dan", "unknown"); w.Ahead != 1 {
		t.Errorf("%+v", w)
	}
}

func TestQueueIsBounded(t *testing.T) {
	h := newFixture(t)
	h.rebuild(func(c *broker.Config) { c.Queue.Limit = 3 })
	h.join("node-1", func(p *proto.Peer) { p.Capacity = 1 })
	h.enter("ada", "")
	h.reportTwice(1, 1)
	for i := range 3 {
		h.enter(fmt.Sprint("user-", i), "")
	}
	_, _, err := h.Enter(t.Context(), user("late"), "")
	if !errors.Is(err, placement.ErrNoCapacity) {
		t.Error(err)
	}
	if n := h.counts.of("waited default turned_off"); n != 1 {
		t.Errorf("%d turned off", n)
	}
}

func TestEnterErrors(t *testing.T) {
	h := newSmallFixture(t, 1)
	for _, entry := range []string{"", "entry"} {
		if _, _, err := h.Enter(t.Context(), user(""), entry); !errors.Is(err, broker.ErrInvalid) {
			t.Error(err)
		}
	}
	h.Leave("node-1")
	if _, w, err := h.Enter(t.Context(), user("ada"), ""); !errors.Is(err, placement.ErrNoNodes) || w.Entry != "" {
		t.Errorf("no node at all: %+v, %v", w, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := h.Enter(ctx, user("ada"), "entry"); !errors.Is(err, session.ErrUnavailable) {
		t.Error(err)
	}
}

// Logins with different strict regions wait in different queues.
func TestQueuesOfRegions(t *testing.T) {
	h := newFixture(t)
	for _, region := range []string{"eu", "us"} {
		h.join(region+"-1", func(p *proto.Peer) { p.Region, p.Capacity = region, 1 })
	}
	in := func(name, region string) proto.AssignmentRequest {
		return proto.AssignmentRequest{User: name, Placement: proto.Placement{Region: region, Strict: true}}
	}
	if a, _, err := h.Enter(t.Context(), in("ada", "eu"), ""); err != nil || a.Node.ID != "eu-1" {
		t.Fatal(a, err)
	}
	if _, w, err := h.Enter(t.Context(), in("bob", "eu"), ""); err != nil || w.Entry == "" {
		t.Fatal(w, err)
	}
	if a, _, err := h.Enter(t.Context(), in("cid", "us"), ""); err != nil || a.Node.ID != "us-1" {
		t.Fatal(a, err)
	}
}
