package placement

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/proto"
)

// For any cluster: only nodes over their share shed, no target is below a share,
// pools and regions are balanced separately, and nodes that drain, are silent or
// suspended do not count.
func TestOverloadedProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := t0
		l := newLeast()
		type group struct{ load, capacity float64 }
		groups := map[string]group{}
		live, capacity, where := map[string]float64{}, map[string]float64{}, map[string]string{}
		for i := range rapid.IntRange(1, 12).Draw(t, "nodes") {
			id := fmt.Sprint("n", i)
			p := proto.Peer{
				ID: id, Role: proto.RoleNode, State: proto.StateReady, Generation: 1,
				Pool: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "pool"), Region: rapid.SampledFrom([]string{"", "eu"}).Draw(t, "region"),
				Capacity: rapid.Uint32Range(1, 20_000).Draw(t, "capacity"),
			}
			held := rapid.Uint32Range(0, p.Capacity).Draw(t, "live")
			state := rapid.SampledFrom([]proto.NodeState{proto.StateReady, proto.StateReady, proto.StateFull, proto.StateDraining}).Draw(t, "state")
			silent := rapid.IntRange(0, 9).Draw(t, "silent") == 0
			l.Update(now, p)
			at := now.Add(4 * time.Second)
			if silent {
				at = now
			}
			l.Report(at, proto.Report{ID: id, Generation: 1, Seq: 1, State: state, Capacity: p.Capacity, Live: held})
			if silent || state == proto.StateDraining {
				continue
			}
			where[id] = p.Pool + "/" + p.Region
			live[id], capacity[id] = float64(held), float64(p.Capacity)
			g := groups[where[id]]
			groups[where[id]] = group{g.load + live[id], g.capacity + capacity[id]}
		}
		now = now.Add(4 * time.Second)
		named := map[string]bool{}
		for _, shed := range l.Overloaded(now, Overload{}) {
			g, ok := groups[where[shed.Node]]
			share := g.load / g.capacity * capacity[shed.Node]
			if !ok || live[shed.Node] <= share+max(8, 0.05*share) || float64(shed.Target) < share || float64(shed.Target) >= live[shed.Node] {
				t.Fatalf("%+v: holds %v, its share is %v", shed, live[shed.Node], share)
			}
			named[shed.Node] = true
		}
		for id, n := range live {
			g := groups[where[id]]
			if share := g.load / g.capacity * capacity[id]; n > share+max(8, 0.05*share) && !named[id] {
				t.Fatalf("%s holds %v of a share of %v and is not named", id, n, share)
			}
		}
	})
}
