package simulate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/usher-broker/usher/broker/placement"
)

// scenario builds a simulation. It is run under the policy and under the oracle,
// with the same seed.
type scenario func(seed uint64, by chooser) *sim

func level60(*rand.Rand) float64 { return 0.6 }

func uneven(mean, sigma float64) func(*rand.Rand) float64 {
	return func(r *rand.Rand) float64 { return min(max(mean*(1+sigma*r.NormFloat64()), 0.02), 0.95) }
}

// settleTime returns how many seconds nodes run that start at 60 %; many nodes
// take long to simulate.
func settleTime(nodes int) float64 {
	if nodes > 100 {
		return 5
	}
	return 30
}

func steady(nodes, brokers int) scenario {
	return func(seed uint64, by chooser) *sim {
		s := newSim(seed, nodes, brokers, 10_000, level60)
		s.stay = 300
		s.run(by, settleTime(nodes))
		return s.measure(by, settleTime(nodes))
	}
}

// sizes are the cluster sizes of TestJoin.
var sizes = []struct{ nodes, brokers int }{{3, 2}, {10, 4}, {20, 8}, {100, 16}}

// TestGoals runs every scenario of the package and checks its goals.
func TestGoals(t *testing.T) {
	for _, s := range Builtin() {
		t.Run(s.Name, func(t *testing.T) {
			nodes := 0
			for _, n := range s.Nodes {
				nodes += n.Count
			}
			if testing.Short() && nodes > 100 {
				t.Skip("takes seconds")
			}
			results, err := Run(t.Context(), s, []string{Oracle, Default}, 1)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("worst max/mean: oracle %.4f, policy %.4f, ratio %.4f", results[0].Worst, results[1].Worst, results[1].Worst/results[0].Worst)
			for _, m := range s.Missed(results) {
				t.Error(m)
			}
		})
	}
}

// The oracle must be hard to match: other policies must fail the goals.
func TestOtherPoliciesMissTheGoals(t *testing.T) {
	least := func(few int) func() placement.Selector {
		return func() placement.Selector { return &placement.Least{Candidates: 1, Few: few} }
	}
	for name, p := range map[string]policies{
		"least loaded by the last reports": {make: least(1000), blind: true},
		"at random":                        {make: least(1)},
	} {
		worst := 0.0
		for seed := range uint64(3) {
			sc := steady(20, 8)
			s := newSim(seed, 20, 8, 10_000, level60)
			s.stay = 300
			s.run(p, 30)
			worst = max(worst, s.measure(p, 30).worst/sc(seed, oracle{}).worst)
		}
		if worst < 1.01 {
			t.Errorf("%s: ratio %.4f", name, worst)
		}
	}
}

func TestJoin(t *testing.T) {
	for _, size := range sizes {
		t.Run(fmt.Sprint(size.nodes), func(t *testing.T) {
			s := newSim(3, size.nodes, size.brokers, 10_000, uneven(0.7, 0.01))
			s.stay = 300
			rate := max(s.rate(0), 600) // logins a second, so that the new node's even part is below its limit
			s.rate = func(int) float64 { return rate }
			s.stay = float64(s.live()) / rate / (1 - s.abandon)
			s.run(policies{}, 20)
			n := s.add(10_000, 0)
			s.run(policies{}, 2)
			early := float64(n.live) / 2
			s.measure(policies{}, 88)
			limit := 10_000.0 / 60
			fair := rate / float64(size.nodes+1)
			t.Logf("%.0f logins a second, %.0f a second at first, peak %d, limit %.0f; at the end %.2f of the mean",
				rate, early, n.peak, limit, s.share(n))
			if early > fair+limit/3 {
				t.Errorf("%.0f a second in the first two: no ramp", early)
			}
			if float64(n.peak) > 2*limit {
				t.Errorf("peak %d a second, more than twice the limit of %.0f", n.peak, limit)
			}
			if float64(n.peak) < limit/2 && float64(n.peak) < 0.9*fair {
				t.Errorf("peak %d a second: it was not filled", n.peak)
			}
			if s.share(n) < 0.9 {
				t.Errorf("after 90 s it is at %.2f of the mean", s.share(n))
			}
			if s.refused > 0 {
				t.Errorf("%d refused", s.refused)
			}
		})
	}
}

func TestHalfEmptyEvenOut(t *testing.T) {
	s := newSim(4, 20, 8, 10_000, func(r *rand.Rand) float64 { return 0.3 + 0.3*float64(r.IntN(2)) })
	s.stay = 100
	s.run(policies{}, 60)
	for _, n := range s.nodes {
		if x := s.share(n); x < 0.97 || x > 1.03 {
			t.Errorf("%s is at %.3f of the mean after 60 s", n.id, x)
		}
	}
}

func TestRandomScenarios(t *testing.T) {
	count := 60
	if testing.Short() {
		count = 15
	}
	var ratios []float64
	for seed := range uint64(count) {
		sc := randomScenario(rand.New(rand.NewPCG(seed, 99)))
		ratios = append(ratios, sc(seed, policies{}).worst/sc(seed, oracle{}).worst)
	}
	slices.Sort(ratios)
	median, p90, worst := ratios[count/2], ratios[count*9/10], ratios[count-1]
	t.Logf("ratio to the oracle: median %.4f, p90 %.4f, worst %.4f", median, p90, worst)
	if median > 1.005 || p90 > 1.01 || worst > 1.04 {
		t.Errorf("ratio to the oracle: median %.4f, p90 %.4f, worst %.4f", median, p90, worst)
	}
}

func randomScenario(r *rand.Rand) scenario {
	nodes, brokers := 2+r.IntN(60), 1+r.IntN(16)
	fill, sigma := 0.2+0.5*r.Float64(), 0.1*r.Float64()
	stay, abandon := 100+500*r.Float64(), 0.4*r.Float64()
	kill := r.IntN(3) == 0 && nodes > 4
	peak := 1 + 4*r.Float64()
	slow := 1 + r.IntN(2500)
	return func(seed uint64, by chooser) *sim {
		s := newSim(seed, nodes, brokers, 10_000, uneven(fill, sigma))
		s.stay, s.abandon = stay, abandon
		s.connect = func() int { return 20 + s.rng.IntN(slow) }
		s.run(by, 5)
		base := s.rate(0)
		from := s.ms
		s.rate = func(ms int) float64 {
			if ms > from+2000 && ms < from+8000 {
				return base * peak
			}
			return base
		}
		if kill {
			s.at[s.ms+3000] = func(s *sim) { s.kill(1) }
		}
		return s.measure(by, 20)
	}
}
