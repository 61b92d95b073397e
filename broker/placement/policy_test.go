package placement

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/proto"
)

func withPolicy(s Selector, list ...proto.Peer) *world {
	l := newWorld(Config{Selector: func(string) Selector { return s }}, nodes.Config{}, 1)
	for _, n := range list {
		l.Update(t0, n)
	}
	return l
}

func policyNamed(t interface {
	Helper()
	Fatal(args ...any)
}, name string,
) Selector {
	t.Helper()
	p, err := New(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRoundRobin(t *testing.T) {
	l := withPolicy(policyNamed(t, "round-robin"), ready("a", 10, 9), ready("b", 1000, 0), ready("c", 1000, 0))
	var got []string
	for range 7 {
		got = append(got, pick(t, l, t0, Hints{}))
	}
	if s := strings.Join(got, ""); s != "abcbcbc" { // a is full after one
		t.Error(s)
	}
	l.Remove("b")
	if id := pick(t, l, t0, Hints{}); id != "c" && id != "a" {
		t.Error(id)
	}
}

// The order is that of nginx for weights 5, 1 and 1.
func TestWeightedRoundRobin(t *testing.T) {
	l := withPolicy(policyNamed(t, "weighted-round-robin"), ready("a", 50000, 0), ready("b", 10000, 0), ready("c", 10000, 0))
	var got []string
	for range 14 {
		got = append(got, pick(t, l, t0, Hints{}))
	}
	if s := strings.Join(got, ""); s != "aabacaaaabacaa" {
		t.Error(s)
	}
}

func TestRandom(t *testing.T) {
	l := withPolicy(policyNamed(t, "random"), ready("a", 300_000, 0), ready("b", 100_000, 0), ready("c", 100_000, 0))
	got := map[string]int{}
	for range 10_000 {
		got[pick(t, l, t0, Hints{})]++
	}
	if got["a"] < 5500 || got["a"] > 6500 || got["b"] < 1700 || got["b"] > 2300 {
		t.Errorf("%v", got)
	}
}

// A key stays at its node, except for keys of a node that leaves, and no node
// exceeds its bound.
func TestHash(t *testing.T) {
	var list []proto.Peer
	for i := range 10 {
		list = append(list, ready(fmt.Sprint("node-", i), 100_000, 0))
	}
	where := func(l *world) map[string]string {
		at := map[string]string{}
		for i := range 500 {
			key := fmt.Sprint("user-", i)
			at[key] = pick(t, l, t0, Hints{Key: key})
			l.Cancel(t0, l.Find(at[key]))
		}
		return at
	}
	l := withPolicy(Hash{}, list...)
	before := where(l)
	if other := withPolicy(Hash{}, list...); !maps.Equal(before, where(other)) {
		t.Error("two brokers differ")
	}
	l.Remove("node-3")
	moved := 0
	for key, id := range where(l) {
		if id != before[key] {
			moved++
			if before[key] != "node-3" {
				t.Errorf("%s went from %s to %s", key, before[key], id)
			}
		}
	}
	if moved < 25 || moved > 90 {
		t.Errorf("%d of 500 moved", moved)
	}
	got := map[string]int{}
	for range 900 { // all with one key
		got[pick(t, l, t0, Hints{Key: "ada"})]++
	}
	for id, n := range got {
		if n > 126 {
			t.Errorf("%s got %d; a fair share is 100, the bound 125", id, n)
		}
	}
}

// Every policy picks an eligible node if there is one, and obeys the hints.
func TestPoliciesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := withPolicy(policyNamed(t, rapid.SampledFrom(Names()).Draw(t, "policy")))
		for i := range rapid.IntRange(1, 30).Draw(t, "nodes") {
			p := ready(fmt.Sprint("n", i), rapid.Uint32Range(0, 30).Draw(t, "capacity"), 0)
			p.Region = rapid.SampledFrom([]string{"", "eu", "us"}).Draw(t, "region")
			p.State = rapid.SampledFrom([]proto.NodeState{proto.StateReady, proto.StateReady, proto.StateDraining}).Draw(t, "state")
			l.Update(t0, p)
			l.Report(t0, proto.Report{
				ID: p.ID, Generation: 1, Seq: 1, State: p.State, Capacity: p.Capacity,
				LoadPenalty: rapid.SampledFrom([]uint8{0, 0, 50, 100}).Draw(t, "penalty"),
			})
		}
		h := Hints{
			Region: rapid.SampledFrom([]string{"", "eu"}).Draw(t, "preferred"), Strict: rapid.Bool().Draw(t, "strict"),
			Exclude: "n0", Key: "ada", Balance: rapid.Bool().Draw(t, "balance"),
		}
		if h.Region == "" {
			h.Strict = false
		}
		for range 100 {
			before := l.Views(t0)
			id, err := l.Pick(t0, h)
			allowed := func(v nodes.View) bool {
				return v.Peer.ID != "n0" && (!h.Strict || v.Peer.Region == h.Region)
			}
			open := slices.ContainsFunc(before, func(v nodes.View) bool { return allowed(v) && v.Eligible() })
			near := slices.ContainsFunc(before, func(v nodes.View) bool { return allowed(v) && v.Eligible() && v.Peer.Region == h.Region })
			i := slices.IndexFunc(before, func(v nodes.View) bool { return v.Peer.ID == id })
			switch {
			case err != nil && open:
				t.Fatalf("%v while a node is eligible", err)
			case err != nil:
				return
			case !allowed(before[i]):
				t.Fatalf("%s may not be picked", id)
			case open && !before[i].Eligible():
				t.Fatalf("%s is not eligible: %s", id, before[i].Why())
			case near && h.Region != "" && before[i].Peer.Region != h.Region:
				t.Fatalf("%s is not in the region, and a node there has capacity", id)
			}
		}
	})
}

// lastOne is a custom policy that picks the last candidate.
type lastOne struct{}

func (lastOne) Select(list []Node, _ Hints, _ *rand.Rand) int { return len(list) - 1 }

// outOfRange is a faulty policy: it returns an index that does not exist.
type outOfRange struct{}

func (outOfRange) Select([]Node, Hints, *rand.Rand) int { return 99 }

func TestOwnPolicy(t *testing.T) {
	l := withPolicy(lastOne{}, ready("a", 10, 0), ready("b", 10, 0))
	if id := pick(t, l, t0, Hints{}); id != "b" {
		t.Error(id)
	}
	// A faulty policy does not cost a session.
	l = withPolicy(outOfRange{}, ready("a", 10, 5), ready("b", 10, 0))
	if id := pick(t, l, t0, Hints{}); id != "b" {
		t.Error(id)
	}
}

func TestParsePolicies(t *testing.T) {
	of, err := ParsePolicies([]string{"random", "vip=hash"})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := of("vip").(Hash); !ok {
		t.Errorf("%T", of("vip"))
	}
	if _, ok := of("default").(Random); !ok {
		t.Errorf("%T", of("default"))
	}
	if of, _ := ParsePolicies(nil); *of("x").(*Least) != (Least{}) {
		t.Errorf("%T", of("x"))
	}
	if _, err := New("power-of-two"); err == nil || !strings.Contains(err.Error(), "use least") {
		t.Errorf("a policy of earlier versions: %v", err)
	}
	for _, list := range [][]string{{"best"}, {"=hash"}, {"hash", "least"}, {"a=hash", "a=least"}} {
		if _, err := ParsePolicies(list); err == nil {
			t.Errorf("%v: no error", list)
		}
	}
}

func inRegions(l *world, live map[string]uint32) {
	for _, region := range []string{"eu", "us", "ap"} {
		p := ready(region+"-1", 100, live[region])
		p.Region = region
		l.Update(t0, p)
	}
}

func TestRegionsInOrder(t *testing.T) {
	order := Hints{Region: "eu", Fallback: []string{"us"}}
	for _, tc := range []struct {
		live map[string]uint32
		h    Hints
		want string
	}{
		{nil, order, "eu-1"},
		{map[string]uint32{"eu": 100}, order, "us-1"},
		{map[string]uint32{"eu": 100, "us": 100}, order, "ap-1"},
		{map[string]uint32{"eu": 100, "us": 100}, Hints{Region: "eu", Fallback: []string{"us"}, Strict: true}, ""},
		{map[string]uint32{"eu": 100}, Hints{Region: "eu", Fallback: []string{"us"}, Strict: true}, "us-1"},
		{map[string]uint32{"eu": 100}, Hints{Region: "eu", Strict: true}, ""},
	} {
		l := newLeast()
		inRegions(l, tc.live)
		id, err := l.Pick(t0, tc.h)
		if id != tc.want || (tc.want == "") != errors.Is(err, ErrNoCapacity) {
			t.Errorf("%v %+v: %s, %v; want %s", tc.live, tc.h, id, err, tc.want)
		}
	}
	l := newLeast()
	inRegions(l, nil)
	if _, err := l.Pick(t0, Hints{Region: "mars", Strict: true}); !errors.Is(err, ErrNoNodes) {
		t.Error(err)
	}
	// If no node has reported recently, the order still holds.
	late := after(time.Minute)
	for range 20 {
		if id := pick(t, l, late, order); id != "eu-1" {
			t.Fatal(id)
		}
	}
}

// A node gets no sessions before it was reached. A node that is no longer
// reachable gets sessions only if there is no other; one that was never reached
// gets none.
func TestReach(t *testing.T) {
	l := newWorld(Config{}, probed, 1)
	for _, id := range []string{"a", "b"} {
		l.Update(t0, ready(id, 100, 0))
	}
	if _, err := l.Pick(t0, Hints{}); !errors.Is(err, ErrNoNodes) {
		t.Fatal(err)
	}
	l.probe("a", "connection refused")
	if v := view(t, l, t0, "a"); v.Eligible() || v.Why() != "clients cannot connect: connection refused" || v.Reach != nodes.NeverReached {
		t.Errorf("%+v", v)
	}
	l.probe("b", "")
	for range 10 {
		if id := pick(t, l, t0, Hints{}); id != "b" {
			t.Fatal(id)
		}
	}
	if _, err := l.Pick(t0, Hints{Exclude: "b"}); !errors.Is(err, ErrNoNodes) {
		t.Errorf("picked a node that was never reached: %v", err)
	}
	l.probe("b", "timeout")
	if id := pick(t, l, t0, Hints{}); id != "b" {
		t.Errorf("the last resort: %s", id)
	}
	l.probe("a", "")
	for range 10 {
		if id := pick(t, l, t0, Hints{}); id != "a" {
			t.Fatal(id)
		}
	}
	p := ready("a", 100, 0) // restarted at another address
	p.Generation, p.URL = 2, "ws://elsewhere"
	l.Update(t0, p)
	if v := view(t, l, t0, "a"); v.Reach != nodes.Untried || v.Eligible() {
		t.Errorf("%+v", v)
	}
}

// A load penalty reduces a node's share; at 100 % it gets no sessions.
func TestLoadPenalty(t *testing.T) {
	shares := func(reported uint8, clients int) map[string]int {
		l := newLeast(ready("a", 10_000, 0), ready("b", 10_000, 0), ready("c", 10_000, 0))
		for _, id := range []string{"a", "b", "c"} {
			r := report(id, 1, 10_000, 0, 0)
			if id == "a" {
				r.LoadPenalty = reported
			}
			l.Report(t0, r)
		}
		for i := range clients * 20 / 50 { // 20 users have the full effect of 50 %
			l.ClientReport(t0, "a", fmt.Sprint("user-", i))
		}
		l.Tick(t0)
		got := map[string]int{}
		for range 2500 {
			got[pick(t, l, t0, Hints{})]++
		}
		return got
	}
	if got := shares(50, 0); got["a"] < 490 || got["a"] > 510 {
		t.Errorf("reported penalty 50: %v", got)
	}
	if got := shares(0, 50); got["a"] < 490 || got["a"] > 510 {
		t.Errorf("client penalty 50: %v", got)
	}
	if got := shares(100, 0); got["a"] != 0 {
		t.Errorf("reported penalty 100: %v", got)
	}
	if got := shares(0, 0); got["a"] < 830 || got["a"] > 840 {
		t.Errorf("no penalty: %v", got)
	}
}

func TestExplain(t *testing.T) {
	l := newWorld(Config{}, probed, 1)
	add := func(id, pool, region string, live uint32, failure string) {
		p := ready(id, 100, live)
		p.Pool, p.Region = pool, region
		l.Update(t0, p)
		l.probe(id, failure)
	}
	add("best", "", "eu", 10, "")
	add("second", "", "eu", 20, "")
	add("far", "", "us", 0, "")
	add("full", "", "eu", 100, "")
	add("never reached", "", "eu", 0, "refused")
	add("vip", "vip", "eu", 0, "")
	add("gone", "", "eu", 0, "")
	before := view(t, l, t0, "best")
	list := l.Explain(t0, Hints{Region: "eu", Exclude: "gone"})
	if !reflect.DeepEqual(view(t, l, t0, "best"), before) {
		t.Error("Explain changed the table")
	}
	want := map[string]string{
		"best":          "it has the best score",
		"second":        "best has a better score: 0.11, not 0.21",
		"far":           `region "eu" is preferred and has capacity`,
		"full":          "full: 100 of 100, 0 under way",
		"never reached": "clients cannot connect: refused",
		"vip":           `it is in pool "vip", not "default"`,
		"gone":          "the client could not reach it",
	}
	if len(list) != len(want) || list[0].Peer.ID != "best" || list[1].Peer.ID != "second" {
		t.Errorf("%+v", list)
	}
	for _, v := range list {
		if v.Because != want[v.Peer.ID] || v.Chosen != (v.Peer.ID == "best") {
			t.Errorf("%s: chosen %v, %q, want %q", v.Peer.ID, v.Chosen, v.Because, want[v.Peer.ID])
		}
	}
	late := after(time.Minute)
	list = l.Explain(late, Hints{Region: "eu"})
	i := slices.IndexFunc(list, func(v Rating) bool { return v.Chosen })
	if i < 0 || list[i].Peer.Region != "eu" || !strings.HasPrefix(list[i].Because, "it is the last resort: ") {
		t.Errorf("%+v", list)
	}
	for _, v := range l.Explain(t0, Hints{Region: "mars", Strict: true}) {
		if v.Chosen || v.Candidate {
			t.Errorf("%+v", v)
		}
	}
	if list := newLeast().Explain(t0, Hints{}); len(list) != 0 {
		t.Error(list)
	}
}

func BenchmarkPolicies(b *testing.B) {
	for _, name := range Names() {
		b.Run(name, func(b *testing.B) {
			l := withPolicy(policyNamed(b, name))
			for i := range 1000 {
				l.Update(t0, ready(fmt.Sprintf("node-%04d", i), 1<<24, uint32(i%7)*1000+1<<20))
			}
			l.Tick(t0)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Pick(t0, Hints{Key: "ada"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
