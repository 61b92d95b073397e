package cluster

import (
	"context"
	"reflect"
	"sync"
	"testing"
	"time"

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

// fakeLoad is a Load with settable values.
type fakeLoad struct {
	mu      sync.Mutex
	state   proto.NodeState
	live    uint32
	arrived map[string]uint64
}

func (l *fakeLoad) Load() (proto.NodeState, uint32, uint32) {
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
	load := &fakeLoad{state: proto.StateReady, live: 40, arrived: map[string]uint64{"a": 3, "b": 4}}
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
