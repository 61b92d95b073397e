package placement

import (
	"errors"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

// If no node is eligible, Pick ignores one condition after another: a node that
// fails a condition is picked only if every other node fails a later one.
func TestRelaxation(t *testing.T) {
	now := after(10 * time.Second)
	fresh := func(l *world, id string, live uint32) { l.Report(now, report(id, 1, 100, live, 0)) }
	l := newLeast(ready("silent", 100, 0), ready("suspended", 100, 0), ready("estimated", 100, 95), ready("good", 100, 90))
	l.SetBrokers(8)
	fresh(l, "suspended", 0)
	fresh(l, "estimated", 95)
	fresh(l, "good", 80)
	l.suspend("suspended", now.Add(time.Minute))
	l.Sent(l.Find("estimated"))

	for _, want := range []string{"good", "silent", "suspended", "estimated"} {
		for range 2 {
			if id := pick(t, l, now, Hints{}); id != want {
				t.Fatalf("picked %s, want %s", id, want)
			}
			l.Tick(now)
		}
		l.Remove(want)
	}
	if _, err := l.Pick(now, Hints{}); !errors.Is(err, ErrNoNodes) {
		t.Errorf("no node at all: %v", err)
	}
}

func TestRelaxedStaysInItsRegion(t *testing.T) {
	now := after(10 * time.Second)
	eu, us := ready("eu", 100, 50), ready("us", 100, 0)
	eu.Region, us.Region = "eu", "us"
	l := newLeast(eu, us) // both have not reported for too long
	if id := pick(t, l, now, Hints{Region: "eu"}); id != "eu" {
		t.Errorf("picked %s", id)
	}
	// A healthy node in another region is better than a silent one in the preferred region.
	l.Report(now, report("us", 1, 100, 0, 0))
	if id := pick(t, l, now, Hints{Region: "eu"}); id != "us" {
		t.Errorf("picked %s", id)
	}
}

func TestNeverRelaxed(t *testing.T) {
	for _, s := range []proto.NodeState{proto.StateStarting, proto.StateDraining} {
		p := ready("a", 100, 0)
		p.State = s
		if _, err := newLeast(p).Pick(t0, Hints{}); !errors.Is(err, ErrNoNodes) {
			t.Errorf("%v: %v", s, err)
		}
	}
	p := ready("a", 100, 0)
	p.State = proto.StateFull
	draining := ready("b", 100, 0)
	draining.State = proto.StateDraining
	if _, err := newLeast(p, draining).Pick(t0, Hints{}); !errors.Is(err, ErrNoCapacity) {
		t.Errorf("full: %v", err)
	}
	if _, err := newLeast(p).Pick(t0, Hints{Exclude: "a"}); !errors.Is(err, ErrNoNodes) {
		t.Errorf("full but excluded: %v", err)
	}
}

func TestFillsToCapacity(t *testing.T) {
	l := newLeast(ready("a", 10, 0), ready("b", 20, 0), ready("c", 3, 0))
	l.SetBrokers(4) // whatever the estimate for the other brokers is
	for i := range 33 {
		if _, err := l.Pick(t0, Hints{}); err != nil {
			t.Fatalf("pick %d of 33: %v", i+1, err)
		}
	}
	if _, err := l.Pick(t0, Hints{}); !errors.Is(err, ErrNoCapacity) {
		t.Errorf("one too many: %v", err)
	}
	r := report("c", 1, 3, 2, 3)
	l.Report(t0, r) // a session left or never arrived: capacity for one
	for range 3 {
		l.Cancel(t0, l.Find("c"))
	}
	if id := pick(t, l, t0, Hints{}); id != "c" {
		t.Errorf("the free capacity was not used: %s", id)
	}
}

func TestSuspendEnds(t *testing.T) {
	l := newLeast(ready("a", 100, 0), ready("b", 100, 50))
	l.suspend("a", after(time.Second))
	l.suspend("ghost", after(time.Second))
	if id := pick(t, l, t0, Hints{}); id != "b" {
		t.Errorf("picked %s, which is suspended", id)
	}
	l.Tick(after(time.Second))
	if id := pick(t, l, after(time.Second), Hints{}); id != "a" {
		t.Errorf("picked %s after the suspension expired", id)
	}
	l.suspend("a", after(time.Hour))
	l.suspend("a", t0) // ends the suspension
	if id := pick(t, l, after(2*time.Second), Hints{}); id != "a" {
		t.Errorf("picked %s after the suspension ended", id)
	}
}

func TestStateOfGossipAndReport(t *testing.T) {
	a := ready("a", 100, 0)
	a.State = proto.StateStarting
	l := newLeast(a)
	check := func(what string, now time.Time, want bool) {
		t.Helper()
		_, err := l.Pick(now, Hints{})
		if (err == nil) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("starting", t0, false)
	a.State = proto.StateReady
	l.Update(after(time.Second), a)
	check("gossip says ready", after(time.Second), true)
	r := report("a", 1, 100, 0, 0)
	r.State = proto.StateFull
	l.Report(after(time.Second), r)
	l.Update(after(time.Second), a)
	check("a report takes precedence", after(time.Second), false)
	l.Update(after(6*time.Second), a)
	check("an old report does not", after(6*time.Second), true)
	l.Report(after(7*time.Second), report("a", 2, 100, 0, 0))
	a.State = proto.StateDraining
	l.Update(after(7*time.Second), a)
	check("draining by gossip holds at once", after(7*time.Second), false)
}

func TestFirstNodeToReportIsNotFlooded(t *testing.T) {
	// A new broker knows coarse loads from gossip; the reports arrive one by one.
	l := newLeast(ready("a", 1000, 500), ready("b", 1000, 500), ready("c", 1000, 500), ready("d", 1000, 500))
	l.Report(after(100*time.Millisecond), report("a", 1, 1000, 500, 0))
	got := map[string]int{}
	for range 100 {
		got[pick(t, l, after(200*time.Millisecond), Hints{})]++
	}
	if got["a"] != 25 {
		t.Errorf("picks %v", got)
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	l := newTable(100)
	h := Hints{Region: "r1"}
	if n := testing.AllocsPerRun(1000, func() { _, _ = l.Pick(t0, h) }); n != 0 {
		t.Errorf("%v allocations a pick", n)
	}
	now := t0
	if n := testing.AllocsPerRun(100, func() { now = now.Add(100 * time.Millisecond); l.Tick(now) }); n != 0 {
		t.Errorf("%v allocations a tick", n)
	}
}

// A difference within the error of the estimate does not make a node underfull.
func TestUnderfullIsBeyondError(t *testing.T) {
	for brokers, want := range map[int]int{1: 1, 16: 0} {
		l := newLeast(ready("a", 1000, 20), ready("b", 1000, 10))
		l.SetBrokers(brokers)
		l.Tick(t0)
		got := 0
		for _, f := range l.fills {
			if f.underfull[0] {
				got++
			}
		}
		if got != want {
			t.Errorf("%d brokers: %d nodes are underfull, want %d", brokers, got, want)
		}
	}
}
