package placement

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/proto"
)

func view(t *testing.T, l *world, now time.Time, id string) nodes.View {
	t.Helper()
	for _, v := range l.Views(now) {
		if v.Peer.ID == id {
			return v
		}
	}
	t.Fatalf("no node %s", id)
	return nodes.View{}
}

func pick(t *testing.T, l *world, now time.Time, h Hints) string {
	t.Helper()
	id, err := l.Pick(now, h)
	if err != nil {
		t.Fatalf("Pick(%+v): %v", h, err)
	}
	return id
}

func TestPickLeastLoaded(t *testing.T) {
	// Utilisation counts, not the number of sessions: b has more sessions and
	// still more capacity left.
	l := newLeast(ready("a", 100, 50), ready("b", 1000, 480), ready("c", 100, 49))
	if id := pick(t, l, t0, Hints{}); id != "b" {
		t.Errorf("picked %s", id)
	}
}

func TestPendingCountsAtOnce(t *testing.T) {
	l := newLeast(ready("a", 1000, 0), ready("b", 1000, 0), ready("c", 1000, 0))
	got := map[string]int{}
	for range 300 {
		got[pick(t, l, t0, Hints{})]++
	}
	if got["a"] != 100 || got["b"] != 100 || got["c"] != 100 {
		t.Errorf("picks of a burst: %v", got)
	}
}

func TestDrawByCapacity(t *testing.T) {
	var nodes []proto.Peer
	for i := range 40 {
		capacity := uint32(100_000)
		if i%2 == 0 {
			capacity *= 3
		}
		nodes = append(nodes, ready(string(rune('A'+i)), capacity, 0))
	}
	l := newLeast(nodes...)
	got := map[uint32]int{}
	for range 40_000 {
		id := pick(t, l, t0, Hints{})
		got[view(t, l, t0, id).Peer.Capacity]++
	}
	if r := float64(got[300_000]) / float64(got[100_000]); r < 2.8 || r > 3.2 {
		t.Errorf("the large nodes got %.2f times what the small ones got, want 3", r)
	}
}

func TestArrivedSessionsAreNotPending(t *testing.T) {
	l := newLeast(ready("a", 1000, 0))
	l.Report(t0, report("a", 1, 1000, 0, 0))
	for range 6 {
		pick(t, l, t0, Hints{})
	}
	for range 4 {
		pick(t, l, after(4*time.Second), Hints{})
	}
	l.Report(after(5*time.Second), report("a", 2, 1000, 5, 5))
	if v := view(t, l, after(5*time.Second), "a"); v.Pending != 5 || v.Estimate != 10 {
		t.Errorf("pending %d, estimate %v; want 5, 10", v.Pending, v.Estimate)
	}
	// The newest were removed first: all that remain expire with the first picks.
	if v := view(t, l, after(7900*time.Millisecond), "a"); v.Pending != 5 {
		t.Errorf("pending %d before the expiry", v.Pending)
	}
	if v := view(t, l, after(8300*time.Millisecond), "a"); v.Pending != 0 {
		t.Errorf("pending %d after the expiry", v.Pending)
	}
}

func TestPendingExpires(t *testing.T) {
	for _, gap := range []time.Duration{100 * time.Millisecond, time.Second, time.Hour} {
		l := newLeast(ready("a", 1000, 0))
		pick(t, l, t0, Hints{})
		now := time.Duration(0)
		for now <= 8300*time.Millisecond {
			if v := view(t, l, after(now), "a"); now < 8*time.Second && v.Pending != 1 {
				t.Fatalf("gap %v: expired at %v", gap, now)
			}
			now += gap
		}
		if v := view(t, l, after(now), "a"); v.Pending != 0 {
			t.Errorf("gap %v: pending %d at %v", gap, v.Pending, now)
		}
	}
}

func TestReportsOutOfOrder(t *testing.T) {
	l := newLeast(ready("a", 1000, 0))
	l.Report(t0, report("a", 5, 1000, 50, 7))
	l.Report(t0, report("a", 4, 1000, 40, 6))
	l.Report(t0, report("a", 5, 1000, 41, 9))
	l.Report(t0, report("ghost", 6, 1000, 1, 1))
	if v := view(t, l, t0, "a"); v.Report.Live != 50 || v.Report.Arrived != 7 {
		t.Errorf("an old report was accepted: %+v", v.Report)
	}
	if n := len(l.Views(t0)); n != 1 {
		t.Errorf("%d nodes", n)
	}
}

func TestFirstReportCountsNoArrivals(t *testing.T) {
	// A broker gets the first report of a node that has counted arrivals of its
	// sessions for hours (the node was considered dead): none of them is one of
	// the pending sessions.
	l := newLeast(ready("a", 1000, 0))
	l.Report(t0, report("a", 899, 1000, 500, 10_000))
	l.Remove("a")
	l.Update(t0, ready("a", 1000, 0))
	pick(t, l, t0, Hints{})
	l.Report(t0, report("a", 900, 1000, 500, 10_000))
	if v := view(t, l, t0, "a"); v.Pending != 1 {
		t.Errorf("pending %d, want 1", v.Pending)
	}
}

func TestGenerationResets(t *testing.T) {
	next := func(p proto.Peer) proto.Peer { p.Generation = 2; return p }
	nextReport := func(arrived uint64) proto.Report {
		r := report("a", 1, 1000, 3, arrived)
		r.Generation = 2
		return r
	}
	for _, first := range []string{"gossip", "report"} {
		t.Run(first, func(t *testing.T) {
			l := newLeast(ready("a", 1000, 0))
			l.Report(t0, report("a", 50, 1000, 100, 100))
			for range 10 {
				pick(t, l, t0, Hints{})
			}
			if first == "gossip" {
				l.Update(t0, next(ready("a", 1000, 0)))
			} else {
				l.Report(t0, nextReport(0))
			}
			if v := view(t, l, t0, "a"); v.Pending != 0 || v.Estimate > 3 {
				t.Errorf("after the restart: pending %d, estimate %v", v.Pending, v.Estimate)
			}
			// Late messages of the start before change nothing.
			l.Report(t0, report("a", 51, 1000, 77, 101))
			l.Update(t0, ready("a", 5, 5))
			pick(t, l, t0, Hints{})
			r := nextReport(1)
			r.Seq = 2
			l.Update(t0, next(ready("a", 1000, 0)))
			l.Report(t0, r)
			if v := view(t, l, t0, "a"); v.Peer.Generation != 2 || v.Report.Live != 3 || v.Peer.Capacity != 1000 {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestShare(t *testing.T) {
	l := newLeast(ready("a", 100_000, 0))
	l.SetBrokers(4)
	for range 10 {
		pick(t, l, t0, Hints{})
	}
	if v := view(t, l, t0, "a"); v.Estimate != 40 {
		t.Errorf("estimate %v at an even share of 1/4, want 40", v.Estimate)
	}
	// The reports show that half of all arrivals are this broker's.
	var mine uint64
	now := t0
	for i := range uint64(60) {
		now = now.Add(time.Second)
		mine += 100
		r := report("a", i+1, 100_000, 0, mine)
		r.ArrivedAll = 2 * mine
		l.Report(now, r)
		for range 10 {
			l.Tick(now)
		}
	}
	pick(t, l, now, Hints{})
	v := view(t, l, now, "a")
	if per := v.Estimate / float64(v.Pending); math.Abs(per-2) > 0.1 {
		t.Errorf("one session under way stands for %.2f, want 2", per)
	}
	// Without arrivals, the share returns to the guess.
	for range 1000 {
		now = now.Add(100 * time.Millisecond)
		l.Tick(now)
	}
	if got := l.Share(); math.Abs(got-0.25) > 0.01 {
		t.Errorf("share %.3f after a long time without arrivals, want 0.25", got)
	}
}

func TestShareIsBounded(t *testing.T) {
	l := newLeast(ready("a", 1000, 0))
	l.SetBrokers(16)
	l.Report(t0, report("a", 1, 1000, 0, 0))
	r := report("a", 2, 1000, 0, 0)
	r.ArrivedAll = 1 << 40 // nearly all arrivals are of other brokers
	l.Report(t0, r)
	l.Tick(t0)
	if s := l.Share(); s < 1.0/128 {
		t.Errorf("share %v", s)
	}
	l.SetBrokers(0)
	if s := l.Share(); s <= 0 || s > 1 {
		t.Errorf("share %v with 0 brokers", s)
	}
}

func TestCancel(t *testing.T) {
	l := newLeast(ready("a", 2, 0))
	pick(t, l, t0, Hints{})
	pick(t, l, t0, Hints{})
	if _, err := l.Pick(t0, Hints{}); !errors.Is(err, ErrNoCapacity) {
		t.Fatalf("third pick of two: %v", err)
	}
	l.Cancel(t0, l.Find("a"))
	pick(t, l, t0, Hints{})
	for range 5 {
		l.Cancel(t0, l.Find("a"))
	}
	l.Cancel(t0, l.Find("ghost"))
	if v := view(t, l, t0, "a"); v.Pending != 0 {
		t.Errorf("pending %d", v.Pending)
	}
}

func TestPools(t *testing.T) {
	p := ready("p", 100, 90)
	p.Pool = "vip"
	l := newLeast(ready("a", 100, 0), p)
	for range 5 {
		if id := pick(t, l, t0, Hints{Pool: "vip"}); id != "p" {
			t.Errorf("pool vip got %s", id)
		}
		if id := pick(t, l, t0, Hints{}); id != "a" {
			t.Errorf("no pool got %s", id)
		}
		if id := pick(t, l, t0, Hints{Pool: proto.DefaultPool}); id != "a" {
			t.Errorf("pool default got %s", id)
		}
	}
	for range 5 {
		pick(t, l, t0, Hints{Pool: "vip"})
	}
	if _, err := l.Pick(t0, Hints{Pool: "vip"}); !errors.Is(err, ErrNoCapacity) {
		t.Errorf("full pool next to an empty one: %v", err)
	}
	if _, err := l.Pick(t0, Hints{Pool: "other"}); !errors.Is(err, ErrNoNodes) {
		t.Errorf("unknown pool: %v", err)
	}
}

func TestNodeChangesPool(t *testing.T) {
	a := ready("a", 100, 0)
	l := newLeast(a)
	pick(t, l, t0, Hints{})
	a.Pool = "vip"
	l.Update(t0, a)
	if _, err := l.Pick(t0, Hints{}); !errors.Is(err, ErrNoNodes) {
		t.Errorf("the pool it left: %v", err)
	}
	pick(t, l, t0, Hints{Pool: "vip"})
}

func TestRegions(t *testing.T) {
	eu, us := ready("eu", 10, 0), ready("us", 1000, 0)
	eu.Region, us.Region = "eu", "us"
	l := newLeast(eu, us)
	for i := range 10 {
		if id := pick(t, l, t0, Hints{Region: "eu"}); id != "eu" {
			t.Fatalf("pick %d of 10 went to %s", i, id)
		}
	}
	if id := pick(t, l, t0, Hints{Region: "eu"}); id != "us" {
		t.Errorf("with its region full it went to %s", id)
	}
	if id := pick(t, l, t0, Hints{Region: "mars"}); id != "us" {
		t.Errorf("unknown region went to %s", id)
	}
}

func TestExclude(t *testing.T) {
	l := newLeast(ready("a", 100, 0), ready("b", 100, 80))
	for range 10 {
		if id := pick(t, l, t0, Hints{Exclude: "a"}); id != "b" {
			t.Fatal("picked the excluded node")
		}
	}
	l.Remove("b")
	l.Remove("ghost")
	if _, err := l.Pick(t0, Hints{Exclude: "a"}); !errors.Is(err, ErrNoNodes) {
		t.Errorf("only the excluded one left: %v", err)
	}
	pick(t, l, t0, Hints{Exclude: "b"})
}

func TestWhy(t *testing.T) {
	draining, starting, stateFull := ready("draining", 9, 0), ready("starting", 9, 0), ready("statefull", 9, 0)
	draining.State, starting.State, stateFull.State = proto.StateDraining, proto.StateStarting, proto.StateFull
	l := newLeast(draining, starting, stateFull, ready("full", 9, 9), ready("estimated", 9, 6), ready("fine", 9, 0), ready("zero", 0, 0),
		ready("suspended", 9, 0), proto.Peer{ID: "auth", Role: proto.RoleAuth})
	l.SetBrokers(4)
	l.Sent(l.Find("estimated"))
	l.suspend("suspended", after(3*time.Second))
	want := map[string]string{
		"draining": "draining", "starting": "starting", "statefull": "full: 0 of 9", "full": "full: 9 of 9",
		"estimated": "about 10 of 9", "fine": "", "zero": "full: 0 of 0", "suspended": "suspended after a failed probe for another 3s",
	}
	views := l.Views(t0)
	for _, v := range views {
		w := want[v.Peer.ID]
		if v.Eligible() != (w == "") || !strings.Contains(v.Why(), w) {
			t.Errorf("%s: eligible %v, why %q; want %q", v.Peer.ID, v.Eligible(), v.Why(), w)
		}
	}
	if len(views) != len(want) {
		t.Errorf("%d views", len(views))
	}
	if v := view(t, l, after(3500*time.Millisecond), "fine"); v.Eligible() || v.Why() != "no report for 3.5s" {
		t.Errorf("silent: %v %q", v.Eligible(), v.Why())
	}
}
