package placement

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/proto"
)

var t0 = time.Unix(1_700_000_000, 0)

func after(d time.Duration) time.Time { return t0.Add(d) }

// world is a picker with its table, as a broker has them.
type world struct {
	*nodes.Table
	*Picker
}

func newWorld(cfg Config, table nodes.Config, seed uint64) *world {
	t := nodes.New(table, t0)
	return &world{t, NewPicker(cfg, t, rand.New(rand.NewPCG(seed, 2)))}
}

func newLeast(list ...proto.Peer) *world {
	l := newWorld(Config{}, nodes.Config{}, 1)
	for _, n := range list {
		l.Update(t0, n)
	}
	return l
}

func ready(id string, capacity, live uint32) proto.Peer {
	return proto.Peer{ID: id, Role: proto.RoleNode, State: proto.StateReady, Capacity: capacity, Live: live, Generation: 1}
}

func report(id string, seq uint64, capacity, live uint32, arrived uint64) proto.Report {
	return proto.Report{
		ID: id, Generation: 1, Seq: seq, State: proto.StateReady, Capacity: capacity, Live: live, Arrived: arrived, ArrivedAll: arrived,
	}
}

func (w *world) Tick(now time.Time) { w.Picker.Tick(now) }

func (w *world) Pick(now time.Time, h Hints) (string, error) {
	n, err := w.Picker.Pick(now, h)
	if err != nil {
		return "", err
	}
	return n.ID(), nil
}

func (w *world) suspend(id string, until time.Time) {
	if n := w.Find(id); n != nil {
		w.Suspend(id, n.LastReport(), until)
	}
}

// probed is the configuration of a table in which one probe decides.
var probed = nodes.Config{Probes: nodes.Probes{Interval: time.Second, Out: 1, In: 1}}

func (w *world) probe(id, failure string) {
	var err error
	if failure != "" {
		err = errors.New(failure)
	}
	w.Probed(t0, id, w.Find(id).URL(), err, 0)
}
