package nodes

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/proto"
)

var t0 = time.Unix(1_700_000_000, 0)

func after(d time.Duration) time.Time { return t0.Add(d) }

func ready(id string, generation uint64) proto.Peer {
	return proto.Peer{ID: id, Role: proto.RoleNode, State: proto.StateReady, URL: "ws://" + id, Capacity: 1000, Generation: generation}
}

func report(id string, generation, seq uint64) proto.Report {
	return proto.Report{ID: id, Generation: generation, Seq: seq, State: proto.StateReady, Capacity: 1000}
}

var errRefused = errors.New("connection refused")

// A message of a start that has ended changes nothing, however often the node has
// restarted and in whatever order its starts are numbered. Of one start, the report
// with the highest number counts.
func TestOldGenerationNeverWins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := New(Config{}, t0)
		var current, seq uint64
		var live uint32
		ended := map[uint64]bool{}
		see := func(generation uint64) (accepted bool) {
			if ended[generation] {
				return false
			}
			if generation != current {
				if current != 0 {
					ended[current] = true
				}
				current, seq, live = generation, 0, 0
			}
			return true
		}
		generation := rapid.Uint64Range(1, 8)
		t.Repeat(map[string]func(*rapid.T){
			"update": func(t *rapid.T) {
				g := generation.Draw(t, "generation")
				table.Update(t0, ready("a", g))
				see(g)
			},
			"report": func(t *rapid.T) {
				r := report("a", generation.Draw(t, "generation"), rapid.Uint64Range(1, 20).Draw(t, "seq"))
				r.Live = rapid.Uint32Range(1, 100).Draw(t, "live")
				table.Report(t0, r)
				if current != 0 && see(r.Generation) && r.Seq > seq {
					seq, live = r.Seq, r.Live
				}
			},
			"": func(t *rapid.T) {
				n := table.Find("a")
				if (n != nil) != (current != 0) {
					t.Fatalf("known: %v", n != nil)
				}
				if n != nil && (n.LastReport() != ReportID{current, seq} || n.Live() != live) {
					t.Fatalf("%+v with %d sessions, want %d/%d with %d", n.LastReport(), n.Live(), current, seq, live)
				}
			},
		})
	})
}

// For any history: a node is eligible or has reasons, its level is that of the first
// reason, and every session that was sent has one outcome.
func TestVerdictAndOutcomesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := t0
		cfg := Config{}
		if rapid.Bool().Draw(t, "probed") {
			cfg.Probes = Probes{Interval: time.Second, Out: 2, In: 2}
		}
		table := New(cfg, now)
		table.SetBrokers(rapid.IntRange(0, 8).Draw(t, "brokers"))
		id := rapid.SampledFrom([]string{"a", "b", "c"})
		state := rapid.SampledFrom([]proto.NodeState{proto.StateReady, proto.StateReady, proto.StateStarting, proto.StateFull, proto.StateDraining})
		small := rapid.Uint32Range(0, 20)
		seq := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"update": func(t *rapid.T) {
				p := ready(id.Draw(t, "id"), rapid.Uint64Range(1, 3).Draw(t, "generation"))
				p.State, p.Capacity, p.Live = state.Draw(t, "state"), small.Draw(t, "capacity"), small.Draw(t, "live")
				p.URL = rapid.SampledFrom([]string{"ws://1", "ws://2"}).Draw(t, "url")
				table.Update(now, p)
			},
			"report": func(t *rapid.T) {
				seq++
				r := report(id.Draw(t, "id"), rapid.Uint64Range(1, 3).Draw(t, "generation"), seq)
				r.State, r.Capacity, r.Live = state.Draw(t, "state"), small.Draw(t, "capacity"), small.Draw(t, "live")
				r.Arrived = rapid.Uint64Range(0, 50).Draw(t, "arrived")
				r.LoadPenalty = rapid.SampledFrom([]uint8{0, 50, 100, 255}).Draw(t, "penalty")
				table.Report(now, r)
			},
			"probe": func(t *rapid.T) {
				err := rapid.SampledFrom([]error{nil, errRefused}).Draw(t, "error")
				table.Probed(now, id.Draw(t, "id"), rapid.SampledFrom([]string{"ws://1", "ws://2"}).Draw(t, "url"), err, 0.5)
			},
			"suspend": func(t *rapid.T) {
				if n := table.Find(id.Draw(t, "id")); n != nil {
					table.Suspend(n.ID(), n.LastReport(), now.Add(5*time.Second))
				}
			},
			"send": func(t *rapid.T) {
				if n := table.Find(id.Draw(t, "id")); n != nil {
					table.SetTime(now)
					table.Sent(n)
				}
			},
			"cancel": func(t *rapid.T) { table.Cancel(now, table.Find(id.Draw(t, "id"))) },
			"client": func(t *rapid.T) { table.ClientReport(now, id.Draw(t, "id"), fmt.Sprint(small.Draw(t, "user"))) },
			"remove": func(t *rapid.T) { table.Remove(id.Draw(t, "id")) },
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * time.Millisecond)
				table.Tick(now)
			},
			"": func(t *rapid.T) { checkViews(t, table, now) },
		})
	})
}

func checkViews(t *rapid.T, table *Table, now time.Time) {
	for _, v := range table.Views(now) {
		n := table.Find(v.Peer.ID)
		inRing := 0
		for _, b := range n.pending.ring {
			inRing += int(b)
		}
		if o := v.Outcomes; v.Pending != inRing || o.Sent != o.Arrived+o.Missed+uint64(v.Pending) {
			t.Fatalf("%s: %d pending, %d in the buckets, of %+v", v.Peer.ID, v.Pending, inRing, o)
		}
		if v.Level != n.Level() || v.Eligible() != n.Eligible() || v.Eligible() != (len(v.Reasons) == 0) {
			t.Fatalf("%+v, level %d, eligible %v", v.Verdict, n.Level(), n.Eligible())
		}
		if slices.Contains(v.Reasons, "") || !v.Eligible() && v.Why() != n.reason(v.Level) {
			t.Fatalf("%+v", v.Verdict)
		}
		if v.Estimate < float64(v.Pending) || n.Accepts() && !n.Alive() {
			t.Fatalf("%+v", v)
		}
	}
}

// A verdict names every rule that a node fails.
func TestVerdictNamesEveryRule(t *testing.T) {
	table := New(Config{Probes: Probes{Interval: time.Second}}, t0)
	p := ready("a", 1)
	p.State, p.Capacity = proto.StateDraining, 0
	table.Update(t0, p)
	table.Suspend("a", ReportID{1, 0}, after(time.Minute))
	table.SetTime(after(4 * time.Second))
	got := strings.Join(table.Find("a").Verdict().Reasons, "; ")
	want := "draining; its address was not probed yet; full: 0 of 0, 0 under way; suspended after a failed probe for another 56s; no report for 4s"
	if got != want {
		t.Error(got)
	}
}

func TestOutcomes(t *testing.T) {
	table := New(Config{}, t0)
	table.Update(t0, ready("a", 1))
	table.Report(t0, report("a", 1, 1))
	send := func(n int) {
		for range n {
			table.Sent(table.Find("a"))
		}
	}
	send(10)
	table.Cancel(t0, table.Find("a"))
	r := report("a", 1, 2)
	r.Arrived, r.ArrivedAll = 4, 9
	table.Report(after(time.Second), r)
	table.ClientReport(after(time.Second), "a", "ada")
	table.Tick(after(20 * time.Second))
	send(2)
	if v := table.Find("a").View(); v.Outcomes != (Outcomes{Sent: 11, Arrived: 4, Missed: 5, Failed: 1}) || v.Pending != 2 {
		t.Errorf("%+v, %d pending", v.Outcomes, v.Pending)
	}
	old := table.Find("a")
	table.Update(after(20*time.Second), ready("a", 2))
	if v := table.Find("a").View(); v.Outcomes != (Outcomes{}) {
		t.Errorf("after a restart: %+v", v.Outcomes)
	}
	send(1)
	table.Cancel(after(20*time.Second), old) // of an earlier start
	if v := table.Find("a").View(); v.Outcomes != (Outcomes{Sent: 1}) || v.Pending != 1 {
		t.Errorf("after a late cancel: %+v, %d pending", v.Outcomes, v.Pending)
	}
}

// The first report that a broker gets of a node may come after its sessions have arrived
// there.
func TestArrivedBeforeFirstReport(t *testing.T) {
	table := New(Config{}, t0)
	table.Update(t0, ready("a", 1))
	for range 50 {
		table.Sent(table.Find("a"))
	}
	r := report("a", 1, 1)
	r.Arrived, r.ArrivedAll = 50, 1000
	table.Report(after(time.Second), r)
	if v := table.Find("a").View(); v.Outcomes != (Outcomes{Sent: 50, Arrived: 50}) || v.Pending != 0 {
		t.Errorf("%+v, %d pending", v.Outcomes, v.Pending)
	}
	if table.share.all != 0 {
		t.Errorf("the share counts %v arrivals from before the first report", table.share.all)
	}
}

// Only a report that came after the failed probe began ends a suspension.
func TestSuspend(t *testing.T) {
	table := New(Config{}, t0)
	table.Update(t0, ready("a", 1))
	table.Report(t0, report("a", 1, 5))
	last := table.Find("a").LastReport()
	if !table.Suspend("a", last, after(time.Minute)) || table.Find("a").Alive() {
		t.Error("not suspended")
	}
	table.Report(t0, report("a", 1, 5))
	if table.Find("a").Alive() {
		t.Error("a late report ended the suspension")
	}
	table.Report(t0, report("a", 1, 6))
	if !table.Find("a").Alive() {
		t.Error("a report did not end the suspension")
	}
	if table.Suspend("a", last, after(time.Minute)) || table.Suspend("ghost", last, after(time.Minute)) {
		t.Error("suspended a node that has reported since, or one that left")
	}
}

// A probe is due once in an interval, sooner for a node that was never reached, and
// its result counts for the address that was probed.
func TestProbes(t *testing.T) {
	table := New(Config{Probes: Probes{Interval: 2 * time.Second}}, t0)
	table.Update(t0, ready("a", 1))
	due := func(at time.Duration) (urls []string) {
		table.StartProbes(after(at), time.Second, func(_, url string) bool { urls = append(urls, url); return true })
		return urls
	}
	if got := due(0); !slices.Equal(got, []string{"ws://a"}) || len(due(0)) != 0 {
		t.Fatalf("due at once: %v", got)
	}
	moved := ready("a", 1)
	moved.URL = "ws://b"
	table.Update(t0, moved)
	if before, reach := table.Probed(t0, "a", "ws://a", nil, 0); before != Untried || reach != Untried {
		t.Errorf("the probe of the old address counts: %v", reach)
	}
	if got := due(0); !slices.Equal(got, []string{"ws://b"}) {
		t.Errorf("due with a new address: %v", got)
	}
	if _, reach := table.Probed(t0, "a", "ws://b", errRefused, 0); reach != NeverReached || len(due(200*time.Millisecond)) != 0 || len(due(250*time.Millisecond)) != 1 {
		t.Errorf("%v: not due after a quarter of a second", reach)
	}
	table.Probed(after(time.Second), "a", "ws://b", nil, 0)
	if _, reach := table.Probed(after(time.Second), "a", "ws://b", nil, 1); reach != Reached {
		t.Errorf("%v after two successes", reach)
	}
	if len(due(3*time.Second)) != 0 || len(due(3200*time.Millisecond)) != 1 {
		t.Error("not due after an interval and the jitter")
	}
	table.StartProbes(after(time.Minute), time.Second, func(string, string) bool { t.Error("started twice"); return false })
}
