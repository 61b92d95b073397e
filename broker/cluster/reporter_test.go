package cluster

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/proto"
)

func TestPublisher(t *testing.T) {
	t0 := time.Unix(1_700_000_000, 0)
	p := publisher{capacity: 1000, published: nodeLoad{proto.StateStarting, 0}, metaAt: t0}
	for _, s := range []struct {
		ms           int
		state        proto.NodeState
		live         uint32
		observers    uint64
		report, meta bool
		why          string
	}{
		{0, proto.StateStarting, 0, 1, true, false, "the first report"},
		{25, proto.StateReady, 0, 1, false, true, "ready for the first time is published at once; reports keep reportSpacing"},
		{50, proto.StateReady, 0, 1, true, false, "the report follows"},
		{1000, proto.StateReady, 9, 1, false, false, "less than 1 %"},
		{1049, proto.StateReady, 9, 1, false, false, "less than a second"},
		{1050, proto.StateReady, 9, 1, true, false, "a second"},
		{1075, proto.StateReady, 19, 1, false, false, "1 % but just reported"},
		{1100, proto.StateReady, 19, 1, true, false, "1 %"},
		{1150, proto.StateReady, 9, 1, true, false, "1 % down"},
		{1200, proto.StateReady, 9, 2, true, false, "a new observer"},
		{1250, proto.StateReady, 110, 2, true, false, "10 %, but within 10 s"},
		{10024, proto.StateReady, 110, 2, true, false, "just before 10 s"},
		{10025, proto.StateReady, 110, 2, false, true, "10 s after the last metadata"},
		{11024, proto.StateFull, 1000, 2, true, false, "full, but no metadata within 10 s"},
		{11074, proto.StateReady, 999, 2, true, false, "a report at once"},
		{20025, proto.StateFull, 1000, 2, true, true, "after 10 s"},
		{20030, proto.StateDraining, 1000, 2, false, true, "draining is published at once"},
		{20075, proto.StateDraining, 1000, 2, true, false, "and then reported"},
		{31000, proto.StateDraining, 901, 2, true, false, "9.9 %"},
		{31050, proto.StateDraining, 900, 2, false, true, "10 %"},
	} {
		report, meta := p.due(t0.Add(time.Duration(s.ms)*time.Millisecond), nodeLoad{s.state, s.live}, s.observers)
		if report != s.report || meta != s.meta {
			t.Errorf("%d ms: report %v, metadata %v; want %v, %v: %s", s.ms, report, meta, s.report, s.meta, s.why)
		}
	}
}

func TestPublisherRates(t *testing.T) {
	t0 := time.Unix(1_700_000_000, 0)
	p := publisher{capacity: 100, published: nodeLoad{proto.StateReady, 0}, metaAt: t0}
	var reports, metas int
	for ms := 0; ms < 60_000; ms += 10 { // state, load and observers change all the time
		s := nodeLoad{proto.StateReady, uint32(ms) % 100}
		if ms%20 == 0 {
			s.state = proto.StateFull
		}
		report, meta := p.due(t0.Add(time.Duration(ms)*time.Millisecond), s, uint64(ms))
		if report {
			reports++
		}
		if meta {
			metas++
		}
	}
	if reports > 60*20 || reports < 60*15 || metas > 6 || metas < 5 {
		t.Errorf("%d reports, %d metadata in a minute", reports, metas)
	}
	// Without a capacity, no change of load is a fraction of it.
	idle := publisher{published: nodeLoad{proto.StateReady, 0}, metaAt: t0, reportedAt: t0, reported: nodeLoad{proto.StateReady, 0}}
	if report, meta := idle.due(t0.Add(time.Millisecond*999), nodeLoad{proto.StateReady, 0}, 0); report || meta {
		t.Error("an idle node published")
	}
}

// TestPublisherNext checks that next returns the first time at which due publishes
// something.
func TestPublisherNext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		t0 := time.Unix(1_700_000_000, 0)
		drawLoad := func(label string) nodeLoad {
			return nodeLoad{
				rapid.SampledFrom([]proto.NodeState{proto.StateReady, proto.StateFull}).Draw(t, label+" state"),
				rapid.Uint32Range(0, 30).Draw(t, label),
			}
		}
		p := publisher{
			capacity: 100, published: drawLoad("published"), metaAt: t0.Add(-time.Duration(rapid.IntRange(0, 9999).Draw(t, "meta age")) * time.Millisecond),
			reported: drawLoad("reported"), reportedAt: t0.Add(-time.Duration(rapid.IntRange(0, 999).Draw(t, "report age")) * time.Millisecond),
			signs: rapid.Bool().Draw(t, "signs"),
		}
		s := drawLoad("load")
		observers := uint64(rapid.IntRange(0, 1).Draw(t, "observers"))
		p.due(t0, s, observers)
		at := p.next(s, observers)
		if !at.After(t0) || at.After(t0.Add(reportInterval)) {
			t.Fatalf("next is %v after due", at.Sub(t0))
		}
		early := p
		if report, meta := early.due(at.Add(-1), s, observers); report || meta {
			t.Fatalf("due before %v", at.Sub(t0))
		}
		if report, meta := p.due(at, s, observers); !report && !meta {
			t.Fatalf("not due after %v", at.Sub(t0))
		}
	})
}

// TestReporterRests checks that the reporter of a node whose load does not change reads
// it once a second, and that it reports a change at once.
func TestReporterRests(t *testing.T) {
	var a recorder
	auth := authConfig("a")
	auth.Events = a.events()
	_, n := pair(t, auth, nodeConfig("n"))
	load := &fakeLoad{state: proto.StateReady, live: 40, changed: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	var reporter sync.WaitGroup
	defer reporter.Wait()
	defer cancel()
	reporter.Go(func() { n.RunReporter(ctx, load) })
	eventually(t, "a report", func() bool { return len(a.reported()) > 0 })
	before := load.reads.Load()
	time.Sleep(2 * time.Second)
	if reads := load.reads.Load() - before; reads > 4 {
		t.Errorf("the reporter has read an unchanged load %d times in 2 s", reads)
	}
	load.mu.Lock()
	load.live = 500
	load.mu.Unlock()
	load.changed <- struct{}{}
	changed := time.Now()
	eventually(t, "a report of the change", func() bool { all := a.reported(); return all[len(all)-1].Live == 500 })
	t.Logf("reported %v after the change", time.Since(changed))
}

// fakeLoad is a Load with settable values.
type fakeLoad struct {
	mu      sync.Mutex
	state   proto.NodeState
	live    uint32
	arrived map[string]uint64
	changed chan struct{}
	reads   atomic.Int64
}

func (l *fakeLoad) LoadChanged() <-chan struct{} { return l.changed }

func (l *fakeLoad) Load() (proto.NodeState, uint32, uint32) {
	l.reads.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.live, l.live / 2
}

func (*fakeLoad) LoadPenalty() uint8 { return 7 }

func (l *fakeLoad) Draining() *proto.Drain {
	return &proto.Drain{Total: 7, Remaining: 3, Deadline: time.UnixMilli(1_700_000_000_000)}
}

func (l *fakeLoad) Arrived(issuer string) (uint64, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.arrived[issuer], 99
}

func TestRunReporter(t *testing.T) {
	var a, b recorder
	auth, other := authConfig("a"), authConfig("b")
	auth.Events, other.Events = a.events(), b.events()
	ca, n := pair(t, auth, nodeConfig("n"))
	load := &fakeLoad{state: proto.StateReady, live: 40, arrived: map[string]uint64{"a": 3, "b": 4}, changed: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.RunReporter(ctx, load)
	}()
	last := func(r *recorder) proto.Report {
		if all := r.reported(); len(all) > 0 {
			return all[len(all)-1]
		}
		return proto.Report{}
	}
	eventually(t, "a report", func() bool { return last(&a).Live == 40 })
	got := last(&a)
	want := proto.Report{
		ID: "n", Generation: 1, Seq: got.Seq, State: proto.StateReady, Capacity: 1000, Live: 40, Attached: 20, Arrived: 3, ArrivedAll: 99, LoadPenalty: 7,
		Drain: &proto.Drain{Total: 7, Remaining: 3, Deadline: time.UnixMilli(1_700_000_000_000)},
	}
	if !reflect.DeepEqual(got, want) || got.Seq == 0 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	other.Join = []string{ca.Addr()}
	start(t, other)
	eventually(t, "a report to the new member", func() bool { return last(&b).Arrived == 4 })

	load.mu.Lock()
	load.state, load.live = proto.StateDraining, 500
	load.mu.Unlock()
	load.changed <- struct{}{}
	eventually(t, "the report", func() bool { return last(&a).State == proto.StateDraining })
	eventually(t, "the metadata", func() bool { p := b.peer("n"); return p.State == proto.StateDraining && p.Live == 500 })
	cancel()
	<-done
	seq := uint64(0)
	for _, r := range a.reported() {
		if r.Seq < seq {
			t.Errorf("report %d after %d", r.Seq, seq)
		}
		seq = r.Seq
	}
}

func TestReporterEndsWithCluster(t *testing.T) {
	n := start(t, nodeConfig("n"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.RunReporter(t.Context(), &fakeLoad{state: proto.StateReady})
	}()
	if err := n.Leave(time.Second); err != nil {
		t.Fatal(err)
	}
	<-done
}
