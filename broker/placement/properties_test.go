package placement

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/proto"
)

// TestProperties runs random operations in random order and checks every pick
// against Nodes.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := t0
		l := newWorld(Config{Selector: fewOf(rapid.IntRange(1, 8).Draw(t, "few"))}, nodes.Config{}, rapid.Uint64().Draw(t, "seed"))
		id := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("n%d", rapid.IntRange(0, 11).Draw(t, "node")) })
		pool := rapid.SampledFrom([]string{"", proto.DefaultPool, "vip"})
		region := rapid.SampledFrom([]string{"", "eu", "us"})
		state := rapid.SampledFrom([]proto.NodeState{proto.StateReady, proto.StateReady, proto.StateReady, proto.StateStarting, proto.StateFull, proto.StateDraining})
		small := rapid.Uint32Range(0, 40)
		seq := uint64(0)

		t.Repeat(map[string]func(*rapid.T){
			"update": func(t *rapid.T) {
				l.Update(now, proto.Peer{
					ID: id.Draw(t, "id"), Role: proto.RoleNode, State: state.Draw(t, "state"), Pool: pool.Draw(t, "pool"), Region: region.Draw(t, "region"),
					Capacity: small.Draw(t, "capacity"), Live: small.Draw(t, "live"), Generation: rapid.Uint64Range(1, 3).Draw(t, "generation"),
				})
			},
			"report": func(t *rapid.T) {
				seq++
				l.Report(now, proto.Report{
					ID: id.Draw(t, "id"), Generation: rapid.Uint64Range(1, 3).Draw(t, "generation"), Seq: seq - min(seq, rapid.Uint64Range(0, 2).Draw(t, "late")),
					State: state.Draw(t, "state"), Capacity: small.Draw(t, "capacity"), Live: small.Draw(t, "live"),
					Arrived: rapid.Uint64Range(0, 100).Draw(t, "arrived"), ArrivedAll: rapid.Uint64Range(0, 200).Draw(t, "all"),
				})
			},
			"remove":  func(t *rapid.T) { l.Remove(id.Draw(t, "id")) },
			"cancel":  func(t *rapid.T) { l.Cancel(now, l.Find(id.Draw(t, "id"))) },
			"brokers": func(t *rapid.T) { l.SetBrokers(rapid.IntRange(0, 20).Draw(t, "n")) },
			"suspend": func(t *rapid.T) {
				l.suspend(id.Draw(t, "id"), now.Add(time.Duration(rapid.IntRange(-1, 10).Draw(t, "s"))*time.Second))
			},
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * time.Millisecond)
				l.Tick(now)
			},
			"pick": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "n") {
					checkPick(t, l, now, Hints{Pool: pool.Draw(t, "pool"), Region: region.Draw(t, "region"), Exclude: id.Draw(t, "exclude")})
				}
			},
			"": func(t *rapid.T) {
				for _, v := range l.Views(now) {
					if o := v.Outcomes; v.Pending < 0 || o.Sent != o.Arrived+o.Missed+uint64(v.Pending) {
						t.Fatalf("%s: %d pending of %+v", v.Peer.ID, v.Pending, o)
					}
					if v.Eligible() != (v.Why() == "") || v.Estimate < float64(v.Pending) {
						t.Fatalf("%+v", v)
					}
				}
			},
		})
	})
}

func checkPick(t *rapid.T, l *world, now time.Time, h Hints) {
	before := l.Views(now)
	id, err := l.Pick(now, h)
	pool := h.Pool
	if pool == "" {
		pool = proto.DefaultPool
	}
	candidates := slices.DeleteFunc(slices.Clone(before), func(v nodes.View) bool { return v.Peer.Pool != pool || v.Peer.ID == h.Exclude })
	i := slices.IndexFunc(candidates, func(v nodes.View) bool { return v.Peer.ID == id })
	open := slices.ContainsFunc(candidates, func(v nodes.View) bool { return v.Eligible() })
	hasFull := slices.ContainsFunc(candidates, func(v nodes.View) bool { return l.Find(v.Peer.ID).Level() == nodes.Full })
	switch {
	case err == nil && i < 0:
		t.Fatalf("Pick(%+v) = %s: excluded, of another pool, or unknown", h, id)
	case err == nil && open && !candidates[i].Eligible():
		t.Fatalf("Pick(%+v) = %s (%s) while another is eligible", h, id, candidates[i].Why())
	case err == nil && l.Find(id).State() != proto.StateReady:
		t.Fatalf("Pick(%+v) = %s, which is %v", h, id, l.Find(id).State())
	case err == nil:
		if after := l.Find(id).View().Pending; after != candidates[i].Pending+1 {
			t.Fatalf("pending of %s went from %d to %d", id, candidates[i].Pending, after)
		}
	case open:
		t.Fatalf("Pick(%+v): %v while one is eligible", h, err)
	case errors.Is(err, ErrNoCapacity) != hasFull || errors.Is(err, ErrNoNodes) == hasFull:
		t.Fatalf("Pick(%+v): %v, full nodes: %v", h, err, hasFull)
	}
}

// A burst between two reports spreads over equal nodes, whatever the number of
// brokers.
func TestBurstSpreads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "nodes")
		l := newWorld(Config{}, nodes.Config{}, rapid.Uint64().Draw(t, "seed"))
		l.SetBrokers(rapid.IntRange(1, 16).Draw(t, "brokers"))
		live := rapid.Uint32Range(0, 5000).Draw(t, "live")
		for i := range n {
			l.Update(t0, ready(fmt.Sprint(i), 100_000, live))
		}
		got := map[string]int{}
		picks := 100 * n
		for i := range picks {
			now := t0.Add(time.Duration(i) * time.Second / time.Duration(picks))
			if i%(picks/10) == 0 {
				l.Tick(now)
			}
			id, err := l.Pick(now, Hints{})
			if err != nil {
				t.Fatal(err)
			}
			got[id]++
		}
		most := 0
		for _, k := range got {
			most = max(most, k)
		}
		if most > 105 {
			t.Fatalf("one of %d nodes got %d of %d picks, the mean is 100", n, most, picks)
		}
	})
}

// Equal histories give equal picks.
func TestDeterministic(t *testing.T) {
	run := func() (ids []string) {
		l := newTable(50)
		for i := range 500 {
			now := after(time.Duration(i) * 10 * time.Millisecond)
			if i%10 == 0 {
				l.Tick(now)
			}
			id, err := l.Pick(now, Hints{Region: []string{"", "r2"}[i%2]})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		return ids
	}
	if !slices.Equal(run(), run()) {
		t.Error("two equal runs picked differently")
	}
}

func fewOf(n int) func(string) Selector {
	return func(string) Selector { return &Least{Few: n} }
}
