package simulate

import (
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/usher-broker/usher/broker/placement"
)

// shedders simulates nodes that follow OpShed, as node.Node does: each asks
// sessions to leave at a bounded rate, and each session leaves some time later.
type shedders struct {
	rate     float64 // fraction of the capacity a second
	leave    func() int
	commands []shedCommand
	leaving  []int         // by node: sessions that were asked and are still there
	gone     map[int][]int // nodes that lose a session, by time
	moved    int
	asked    int
}

type shedCommand struct {
	target int
	until  int
	tokens float64
}

func newShedders(s *sim) *shedders {
	return &shedders{
		rate: 0.01, gone: map[int][]int{},
		leave: func() int { return 50 + s.rng.IntN(2000) },
	}
}

func (x *shedders) step(s *sim) {
	for len(x.commands) < len(s.nodes) {
		x.commands, x.leaving = append(x.commands, shedCommand{}), append(x.leaving, 0)
	}
	for i, b := range s.brokers {
		if (s.ms+311*i)%1000 != 0 {
			continue
		}
		for _, shed := range b.Overloaded(s.now, placement.Overload{}) {
			n, _ := strconv.Atoi(shed.Node[1:])
			x.commands[n].target, x.commands[n].until = int(shed.Target), s.ms+3000
		}
	}
	for _, from := range x.gone[s.ms] {
		x.leaving[from]--
		if s.nodes[from].live > 0 {
			s.nodes[from].live--
			x.moved++
			s.place(placement.Hints{Exclude: s.nodes[from].id, Balance: true})
		}
	}
	delete(x.gone, s.ms)
	if s.ms%50 != 0 {
		return
	}
	for i, n := range s.nodes {
		o := &x.commands[i]
		if n.dead || s.ms >= o.until {
			o.tokens = 0
			continue
		}
		perSecond := max(x.rate*float64(n.capacity), 1)
		o.tokens = min(o.tokens+perSecond*0.05, perSecond)
		few := min(int(o.tokens), n.live-x.leaving[i]-o.target)
		for range max(few, 0) {
			o.tokens--
			x.asked++
			x.leaving[i]++
			at := s.ms + x.leave()
			x.gone[at] = append(x.gone[at], i)
		}
	}
}

// unevenness returns the greatest deviation of a node from its fair share,
// relative to it. Deviations of up to 16 sessions do not count.
func (s *sim) unevenness() (worst float64) {
	capacity := 0
	for _, n := range s.nodes {
		capacity += n.capacity
	}
	mean := float64(s.live()) / float64(capacity)
	for _, n := range s.nodes {
		share := mean * float64(n.capacity)
		if off := math.Abs(float64(n.live) - share); off > 16 {
			worst = max(worst, off/share)
		}
	}
	return worst
}

// surplus returns how many sessions are above the fair shares of their nodes: the
// fewest that must move.
func (s *sim) surplus() (over float64) {
	capacity := 0
	for _, n := range s.nodes {
		capacity += n.capacity
	}
	for _, n := range s.nodes {
		over += max(0, float64(n.live)-float64(s.live()*n.capacity)/float64(capacity))
	}
	return over
}

// Uneven clusters become even as fast as the rate allows, with few more moves
// than needed. Then no session moves any more.
func TestShedding(t *testing.T) {
	for _, tc := range []struct {
		name    string
		nodes   []int // sessions of each
		brokers int
		stale   bool // one broker gets all reports 2.5 s late
		busy    bool // logins and logouts continue
		uneven  bool // every third node is twice as large
	}{
		{name: "scale-out, 3 and 2", nodes: []int{6000, 6000, 6000, 0, 0}, brokers: 2},
		{name: "scale-out, busy", nodes: []int{6000, 6000, 6000, 0, 0}, brokers: 2, busy: true},
		{name: "scale-out, 20 and 5", nodes: append(slices.Repeat([]int{5000}, 20), 0, 0, 0, 0, 0), brokers: 4, busy: true},
		{name: "after a rolling restart", nodes: []int{4500, 4500, 0}, brokers: 2, busy: true},
		{name: "small", nodes: []int{150, 150, 0}, brokers: 2},
		{name: "uneven capacities", nodes: []int{6000, 6000, 6000, 0, 0, 0}, brokers: 3, uneven: true},
		{name: "a stale broker", nodes: []int{6000, 6000, 0}, brokers: 3, stale: true, busy: true},
		{name: "sixteen brokers", nodes: []int{6000, 6000, 6000, 0}, brokers: 16, busy: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSim(7, 0, tc.brokers, 0, nil)
			for i, live := range tc.nodes {
				capacity := 10_000
				if tc.uneven && i%3 == 0 {
					capacity *= 2
				}
				s.add(capacity, live)
			}
			s.abandon = 0
			if !tc.busy {
				s.rate, s.stay = func(int) float64 { return 0 }, 1e9
			}
			if tc.stale {
				s.lag = func(b int) int {
					if b == 0 {
						return 2500
					}
					return 1 + s.rng.IntN(20)
				}
			}
			x := newShedders(s)
			s.everyMS = x.step
			needed := s.surplus()
			took := 0
			for s.run(policies{}, 1); s.unevenness() > 0.06 && took < 600; took++ {
				s.run(policies{}, 1)
			}
			s.run(policies{}, 30) // until the sessions asked last have left
			moved := x.moved
			x.asked = 0
			s.run(policies{}, 60)
			t.Logf("even after %d s, %d moved, %.0f needed; %d asked in the next minute; now %.3f", took, moved, needed, x.asked, s.unevenness())
			// No node sheds more than 1 % of its capacity a second.
			if limit := 10 + int(1.5*needed/100); took > limit {
				t.Errorf("took %d s, want at most %d", took, limit)
			}
			if float64(moved) > 1.2*needed {
				t.Errorf("%d moved, %.0f were needed", moved, needed)
			}
			if x.asked > 0 {
				t.Errorf("%d asked to leave after the cluster was even", x.asked)
			}
			if s.refused > 0 {
				t.Errorf("%d refused", s.refused)
			}
		})
	}
}
