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

// enters returns the node, or how many are ahead.
func (h *house) enters(name, place string) (proto.Assignment, broker.Waiting) {
	h.t.Helper()
	a, w, err := h.Enter(h.t.Context(), user(name), place)
	if err != nil {
		h.t.Fatal(err)
	}
	if (a.Token == "") != (w.Entry != "") {
		h.t.Fatalf("%+v and %+v", a, w)
	}
	return a, w
}

// small is a house with one node with room for so many.
func small(t *testing.T, room uint32) *house {
	h := newHouse(t)
	h.join("node-1", func(p *proto.Peer) { p.Capacity = room })
	return h
}

// holds has the node report that it holds so many.
func (h *house) holds(live, capacity uint32) {
	h.seq++
	h.Report(proto.Report{ID: "node-1", Generation: 1, Seq: h.seq, State: proto.StateReady, Capacity: capacity, Live: live})
	h.clock.pass(9 * time.Second) // what was on its way has landed, and is counted
	h.seq++
	h.Report(proto.Report{ID: "node-1", Generation: 1, Seq: h.seq, State: proto.StateReady, Capacity: capacity, Live: live})
}

func TestEnter(t *testing.T) {
	h := small(t, 2)
	h.enters("ada", "")
	h.enters("bob", "")
	h.holds(2, 2)
	var places []broker.Waiting
	for i, name := range []string{"cid", "dan", "eve"} {
		_, w := h.enters(name, "")
		if w.Ahead != i || w.Waiting != i+1 || w.Again <= 0 || w.Again > time.Second || w.Estimate != 0 {
			t.Errorf("%s: %+v", name, w)
		}
		places = append(places, w)
	}
	h.holds(1, 2) // one has left
	if _, w := h.enters("fay", ""); w.Ahead != 3 {
		t.Errorf("somebody new was let in before those who wait: %+v", w)
	}
	if _, w := h.enters("dan", places[1].Entry); w.Ahead != 1 {
		t.Errorf("the second was let in before the first: %+v", w)
	}
	a, _ := h.enters("cid", places[0].Entry)
	if a.Node.ID != "node-1" || a.User != "cid" {
		t.Errorf("%+v", a)
	}
	again, _ := h.enters("cid", places[0].Entry) // the answer was lost
	if again.Session != a.Session {
		t.Errorf("asked again: session %s, then %s", a.Session, again.Session)
	}
	_, w := h.enters("dan", places[1].Entry)
	if w.Ahead != 0 || w.Estimate <= 0 {
		t.Errorf("%+v", w)
	}
	for label, want := range map[string]int{
		"waited default queued": 4, "waited default seated": 1, "waited default kept": 2,
	} {
		if got := h.counts.of(label); got != want {
			t.Errorf("%s: %d, want %d", label, got, want)
		}
	}
}

// Those who do not ask again are passed over.
func TestAbandonedPlaces(t *testing.T) {
	h := small(t, 1)
	h.enters("ada", "")
	h.holds(1, 1)
	h.enters("cid", "")
	_, dan := h.enters("dan", "")
	for range 3 {
		h.holds(1, 1) // 9 s pass
		if _, w := h.enters("dan", dan.Entry); w.Ahead < 0 {
			t.Fatal(w)
		}
	}
	if _, w := h.enters("dan", dan.Entry); w.Ahead != 0 || w.Waiting != 1 {
		t.Errorf("%+v", w)
	}
	if n := h.counts.of("waited default abandoned"); n != 1 {
		t.Errorf("%d abandoned", n)
	}
}

// A place that was given up, or never was, is one at the end.
func TestUnknownPlace(t *testing.T) {
	h := small(t, 1)
	h.enters("ada", "")
	h.holds(1, 1)
	h.enters("cid", "")
	if _, w := h.enters("dan", "never heard of"); w.Ahead != 1 {
		t.Errorf("%+v", w)
	}
}

func TestLineIsBounded(t *testing.T) {
	h := newHouse(t)
	h.rebuild(func(c *broker.Config) { c.Queue.Limit = 3 })
	h.join("node-1", func(p *proto.Peer) { p.Capacity = 1 })
	h.enters("ada", "")
	h.holds(1, 1)
	for i := range 3 {
		h.enters(fmt.Sprint("user-", i), "")
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
	h := small(t, 1)
	for _, place := range []string{"", "place"} {
		if _, _, err := h.Enter(t.Context(), user(""), place); !errors.Is(err, broker.ErrInvalid) {
			t.Error(err)
		}
	}
	h.Leave("node-1")
	if _, w, err := h.Enter(t.Context(), user("ada"), ""); !errors.Is(err, placement.ErrNoNodes) || w.Entry != "" {
		t.Errorf("no node at all: %+v, %v", w, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := h.Enter(ctx, user("ada"), "place"); !errors.Is(err, session.ErrUnavailable) {
		t.Error(err)
	}
}

// Whoever wants one region alone does not wait behind those who want another.
func TestLinesOfRegions(t *testing.T) {
	h := newHouse(t)
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
